//! A tiny Llama directory in the Hugging Face layout, and data files in the layout of the published
//! protocol. All texts are placeholders.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use vxf_builtins as _;
use vxf_testkit::checkpoint::{LlamaShape, random};

use super::Place;

/// This many rows of placeholder requests and answers, every other one safe.
fn beavertails(rows: usize, kind: &str) -> String {
    (0..rows).fold(String::new(), |mut text, row| {
        let prompt = format!("placeholder {kind} request {row}");
        let (response, is_safe) = (format!("placeholder answer {row}"), row % 2 == 0);
        let row = json!({ "prompt": prompt, "response": response, "is_safe": is_safe });
        let _ = writeln!(text, "{row}");
        text
    })
}

fn sst2(rows: usize, split: &str) -> String {
    (0..rows).fold(String::new(), |mut text, row| {
        let sentence = format!("{split} sentence {row}");
        let _ = writeln!(text, "{}", json!({ "sentence": sentence, "label": row % 2 }));
        text
    })
}

/// The recipe of these tests.
pub(crate) const RECIPE: &str = r#"
seeds = [1]
harmful_ratios = [0.2]
baseline = false
undefended = false
judges = ["refusal", { name = "file", scores = "scores.jsonl" }]

[model]
path = "model"

[alignment]
trainable = { type = "lora", rank = 2, alpha = 4 }
learning_rate = 0.05
epochs = 1
batch_size = 4

[fine_tuning]
trainable = { type = "lora", rank = 2, alpha = 1 }
learning_rate = 0.05
epochs = 1
batch_size = 5

[data]
template = "alpaca"
max_length = 320
user_samples = 10
max_new_tokens = 3
task_new_tokens = 3
alignment = { path = "beavertails", split = "30k_train", filter = { is_safe = true }, take = 8 }
harmful = { path = "beavertails", split = "30k_train", filter = { is_safe = false } }
guide = { path = "beavertails", split = "30k_train", filter = { is_safe = true }, take = 2 }
harmful_test = { path = "beavertails", split = "30k_test", filter = { is_safe = false }, take = 3 }
user = { path = "sst2", split = "train", schema = "sst2" }
task_test = { path = "sst2", split = "validation", schema = "sst2", take = 3 }
"#;

impl Place {
    /// A model directory with random weights and a byte tokenizer, in files of at most `shard_bytes`.
    pub(crate) fn llama(&self, name: &str, shard_bytes: u64) -> PathBuf {
        let to = self.path(name);
        let shape = LlamaShape { vocabulary: 259, positions: 512, ..LlamaShape::default() };
        let mut config = shape.config();
        config["architectures"] = json!(["LlamaForCausalLM"]);
        let checkpoint = random(config, 3).expect("random weights");
        checkpoint.export(&to, shard_bytes).expect("a new directory");
        self.write(&format!("{name}/tokenizer.json"), &tokenizer().to_string());
        let tokens = json!({ "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>" });
        self.write(&format!("{name}/tokenizer_config.json"), &tokens.to_string());
        to
    }

    /// Data files and `recipe.toml`, next to the directory `model`.
    pub(crate) fn protocol(&self) {
        for directory in ["beavertails/30k", "sst2"] {
            std::fs::create_dir_all(self.path(directory)).expect("a new directory");
        }
        self.write("beavertails/30k/train.jsonl", &beavertails(40, "train"));
        self.write("beavertails/30k/test.jsonl", &beavertails(12, "test"));
        self.write("sst2/train.jsonl", &sst2(20, "train"));
        self.write("sst2/validation.jsonl", &sst2(6, "validation"));
        self.write("recipe.toml", RECIPE);
    }
}

/// A byte-level tokenizer without merges that puts `<s>` before a text.
fn tokenizer() -> Value {
    let specials = ["<unk>", "<s>", "</s>"];
    // GPT-2's letters for the 256 bytes: printable bytes are themselves.
    let itself = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256u32..;
    let letters = (0..=255u8).map(|byte| match itself(byte) {
        true => char::from(byte),
        false => others.next().and_then(char::from_u32).expect("a letter"),
    });
    let mut vocabulary: Map<String, Value> = Map::new();
    let all = specials.map(str::to_owned).into_iter().chain(letters.map(String::from));
    vocabulary.extend(all.enumerate().map(|(id, token)| (token, json!(id))));
    let added = specials.iter().enumerate().map(|(id, token)| {
        json!({ "id": id, "content": token, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true })
    });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true });
    let first = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
    let [text, second] = ["A", "B"].map(|id| json!({ "Sequence": { "id": id, "type_id": 0 } }));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "pre_tokenizer": bytes, "decoder": bytes,
        "post_processor": {
            "type": "TemplateProcessing", "single": [first, text], "pair": [text, second],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        },
        "model": { "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "vocab": vocabulary, "merges": [] },
    })
}
