//! Names of settings in other programs: Trainer, PEFT, axolotl, LLaMA-Factory.

use vxf_core::registry::ConfigError;

use crate::resolve::USUAL;

/// Where a setting of ours stands.
#[derive(Clone, Copy, PartialEq)]
enum Home {
    /// In the sections of training settings.
    Training,
    /// In their table `trainable`.
    Adapter,
    /// At this key, whatever the stage.
    Key,
    /// vxf has no such setting; the text tells the user what to do instead.
    Advice,
}

use Home::{Adapter, Advice, Key, Training};

/// The names that people bring, what they are called here, and where they stand.
const NAMES: [(&[&str], Home, &str); 29] = [
    (&["lr", "learning_rate", "base_lr", "peak_lr"], Training, "learning_rate"),
    (&["num_train_epochs", "num_epochs", "epochs", "train_epochs"], Training, "epochs"),
    (&["max_steps", "max_train_steps", "steps"], Training, "max_steps"),
    (
        &[
            "per_device_train_batch_size",
            "per_gpu_train_batch_size",
            "train_batch_size",
            "micro_batch_size",
            "batch_size",
        ],
        Training,
        "batch_size",
    ),
    (
        &["gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "accumulation"],
        Training,
        "accumulation",
    ),
    (&["lr_scheduler_type", "lr_scheduler", "scheduler", "schedule"], Training, "schedule"),
    (
        &["max_grad_norm", "gradient_clipping", "max_norm", "max_gradient_norm"],
        Training,
        "max_gradient_norm",
    ),
    (&["warmup_ratio"], Training, "warmup_ratio"),
    (&["warmup_steps", "num_warmup_steps"], Training, "warmup_steps"),
    (&["weight_decay", "wd"], Training, "weight_decay"),
    (&["finetuning_type", "adapter", "peft_type", "use_peft", "trainable"], Training, "trainable"),
    (&["lora_r", "lora_rank", "lora_dim", "r", "rank"], Adapter, "rank"),
    (&["lora_alpha", "alpha"], Adapter, "alpha"),
    (&["lora_dropout", "dropout"], Adapter, "dropout"),
    (&["lora_target_modules", "lora_target", "target_modules"], Adapter, "target_modules"),
    (&["use_rslora", "rslora"], Adapter, "use_rslora"),
    (
        &[
            "base_model",
            "model_name_or_path",
            "model_name",
            "pretrained_model_name_or_path",
            "model_path",
        ],
        Key,
        "model.path",
    ),
    (&["torch_dtype", "bf16", "fp16", "dtype"], Key, "model.dtype"),
    (
        &[
            "max_seq_length",
            "max_seq_len",
            "cutoff_len",
            "sequence_len",
            "model_max_length",
            "max_length",
        ],
        Key,
        "data.max_length",
    ),
    (&["chat_template", "template", "prompt_template"], Key, "data.template"),
    (&["datasets", "dataset", "dataset_name", "train_file", "data_path"], Key, "data.user.path"),
    (&["seed", "random_seed"], Key, "seeds"),
    (&["eval_steps", "evaluation_steps"], Key, "eval_every"),
    (&["gradient_checkpointing"], Advice, "write `recompute = \"block\"` at the top of the recipe"),
    (&["output_dir"], Advice, "give it on the command line: `--output-dir DIR`"),
    (
        &["save_steps", "save_strategy"],
        Advice,
        "give it on the command line: `--checkpoint-every STEPS`",
    ),
    (
        &["group_by_length", "length_grouped"],
        Advice,
        "write `order = \"by_length\"` in the stage's section",
    ),
    (
        &["load_in_4bit", "load_in_8bit", "quantization", "quantization_bit"],
        Advice,
        "write `quantize = \"nf4\"` (four bits) or `quantize = \"int8\"` in the section `model`",
    ),
    (
        &["optim", "optimizer", "logging_steps", "report_to", "packing", "flash_attention"],
        Advice,
        "leave it out: AdamW is the optimiser, every step is logged in metrics.jsonl, and padding costs nothing",
    ),
];

/// An error about `key` in `section` (empty at the top) that says what another program's name is called
/// here; none if it is no such name, or if `known` keys are nearer.
pub(crate) fn suggested(section: &str, key: &str, known: &[String]) -> Option<ConfigError> {
    let (_, home, own) = NAMES.iter().find(|(names, ..)| names.contains(&key))?;
    let here = known.iter().any(|known| known == own);
    let trainings = || USUAL.map(|usual| usual.training);
    let instead = match home {
        Advice => (*own).to_owned(),
        // Already in the section where it belongs.
        _ if here => format!("write `{own}`"),
        Training => {
            let [alignment, user, _] = trainings();
            format!("write `{own}` in the section `[{user}]` or `[{alignment}]`")
        }
        Adapter if trainings().contains(&section) => {
            format!("write `trainable = {{ type = \"lora\", {own} = .. }}`")
        }
        Adapter => {
            let [alignment, user, _] = trainings();
            format!(
                "write `trainable = {{ type = \"lora\", {own} = .. }}` in the section `[{user}]` or \
                 `[{alignment}]`"
            )
        }
        Key => match own.rsplit_once('.') {
            None => format!("write `{own}` at the top of the recipe, before any section"),
            Some((section, own)) => format!("write `{own}` in the section `[{section}]`"),
        },
    };
    let at = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    let rule = format!("is not a setting here; {instead}");
    Some(ConfigError { key: at, rule, found: String::new() })
}

/// The keys that `name`, another program's name or ours, has here; none if it is unknown.
pub(crate) fn keys(name: &str) -> Vec<String> {
    let found = NAMES.iter().find(|(names, ..)| names.contains(&name));
    let [alignment, user, _] = USUAL.map(|usual| usual.training);
    match found {
        Some((_, Training, own)) => vec![format!("{user}.{own}"), format!("{alignment}.{own}")],
        Some((_, Adapter, own)) => {
            [user, alignment].map(|it| format!("{it}.trainable.{own}")).into()
        }
        Some((_, Key, own)) => vec![(*own).to_owned()],
        Some((_, Advice, _)) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file, resolve};

    fn problem(recipe: &str) -> String {
        let layer = file::parse(recipe, "r.toml").expect("TOML");
        resolve(layer).expect_err(recipe).to_string()
    }

    #[test]
    fn names_of_other_programs_are_explained_wherever_they_stand() {
        for (recipe, parts) in [
            ("lr = 1e-4", &["r.toml:1", "`lr`", "`learning_rate`", "[fine_tuning]"][..]),
            ("learning_rate = 1e-4", &["`learning_rate` in the section `[fine_tuning]`"]),
            (
                "[fine_tuning]\nlr = 1e-4",
                &["r.toml:2", "`fine_tuning.lr`", "write `learning_rate`"],
            ),
            ("[alignment]\ngradient_accumulation_steps = 4", &["write `accumulation`"]),
            ("[alignment]\nlora_r = 8", &["trainable = { type = \"lora\", rank = .. }"]),
            ("lora_r = 8", &["trainable = { type = \"lora\", rank = .. }", "[fine_tuning]"]),
            ("[fine_tuning]\nper_device_train_batch_size = 8", &["write `batch_size`"]),
            ("[fine_tuning]\nmax_seq_length = 8", &["write `max_length` in the section `[data]`"]),
            ("[fine_tuning]\nnum_train_epochs = 3", &["write `epochs`"]),
            ("warmup_ratio = 0.1", &["`warmup_ratio` in the section `[fine_tuning]`"]),
            ("base_model = \"x\"", &["write `path` in the section `[model]`"]),
            ("[model]\nmodel_name_or_path = \"x\"", &["write `path`"]),
            ("seed = 1", &["write `seeds`"]),
            ("[fine_tuning]\nseed = 1", &["write `seeds` at the top"]),
            ("[fine_tuning]\nload_in_4bit = true", &["quantize", "nf4", "`model`"]),
            ("output_dir = \"x\"", &["`--output-dir DIR`"]),
            ("gradient_checkpointing = true", &["recompute = \"block\""]),
            ("[fine_tuning]\noptim = \"adamw_torch\"", &["leave it out"]),
            ("[fine_tuning.trainable]\ntype = \"lora\"\nlora_rank = 8", &["write `rank`"]),
        ] {
            let text = problem(recipe);
            for part in parts {
                assert!(text.contains(part), "no `{part}` in {text}");
            }
        }
        assert!(problem("[model]\neval_every = 1").contains("write it at the top of the recipe"));
        let texts = problem("[data]\nsource = \"files\"\nepochs = 3");
        assert!(texts.contains("write `epochs` in the section `[fine_tuning]`"), "{texts}");
        // A misspelling of a key of ours is still told as one.
        assert!(
            problem("[fine_tuning]\nlearning_rat = 1.0").contains("did you mean `learning_rate`?")
        );
    }

    #[test]
    fn no_name_is_listed_twice() {
        let mut all: Vec<_> = NAMES.iter().flat_map(|(names, ..)| names.iter()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
