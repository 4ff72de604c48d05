//! What to do about each error.

use std::io::ErrorKind;
use std::path::Path;

use vxf_access::Error as Unopened;
use vxf_core::registry::{self, Entry};
use vxf_data::DataConfig;
use vxf_run::store::finished;
use vxf_run::{Error, Run};

/// What to do about an error; nothing if its message says it.
pub(super) fn hints(error: &Error) -> Vec<String> {
    match error {
        Error::Recipe(error) => recipe_hints(error),
        Error::Core(vxf_core::Error::OutOfMemory { .. }) => vec![
            "keep less of the forward pass (`--set recompute=block`), use smaller batches \
             (`batch_size` with `accumulation`), or a 16-bit type (`--dtype bf16`); \
             `vxf validate RECIPE` estimates the memory"
                .into(),
        ],
        // Only an estimate can do without the model, and it never downloads.
        Error::NoShape { model } => vec![format!(
            "`vxf validate` downloads nothing; `vxf run` or `vxf generate {model} --prompt TEXT` downloads a \
             hub model once"
        )],
        Error::Exists { .. } => vec!["give another directory with `--output-dir`".into()],
        Error::OtherExperiment { .. } | Error::NotAnExperiment { .. } => {
            vec!["give another directory with `--output-dir`; nothing is overwritten".into()]
        }
        Error::Interrupted { path } => {
            vec![format!("`vxf resume {}` or the same command continues", path.display())]
        }
        Error::Checkpoint { .. } => {
            vec!["the disk or the memory may be faulty; the checkpoint before it is kept".into()]
        }
        Error::Unmoved { .. } => vec![
            "every gradient was zero (answers truncated away, an adapter with alpha 0), or the \
             learning rate is too small for the type of the weights (`--dtype f32`)"
                .into(),
        ],
        Error::Doubtful { .. } => vec![
            "raise `fine_tuning.learning_rate` or `fine_tuning.epochs` (or `max_steps`); every step's \
             loss is in metrics.jsonl"
                .into(),
        ],
        Error::AllPrompt { .. } => vec![
            "raise `world.max_length`, for files `data.max_length` (0 is the model's own limit), \
             or use a model with more positions"
                .into(),
        ],
        Error::Access(Unopened::NoTarget { .. }) => vec![
            "a run is at EXPERIMENT/<defense>/<ratio or aligned>/<seed>; a model on the hub is \
             written owner/name, or hf:owner/name if a directory has the owner's name"
                .into(),
        ],
        Error::NoTask { .. } => {
            vec!["`vxf runs EXPERIMENT --pending` lists digests; more letters name one run".into()]
        }
        // The path that was typed is wrong, or the run that an experiment starts from.
        Error::NoRun { path, problem } if problem.starts_with("no such directory") => {
            vec![not_begun(path).unwrap_or_else(|| {
                "`vxf runs DIR` lists the experiments in a directory, and the runs of an experiment; an \
                 aligned run is at EXPERIMENT/<defense>/aligned/<seed>"
                    .into()
            })]
        }
        Error::NoRun { path, problem } => no_run(path, problem),
        Error::MissingSet { who, hint } => no_set(who, hint),
        _ if is_full(error) => vec![
            "the disk is full: free some space, or choose another directory with `--output-dir`; `--keep none` \
             keeps no weights of finished runs"
                .into(),
        ],
        Error::Core(vxf_core::Error::Checkpoint { problem, .. })
            if problem.contains("is missing")
                && !problem.contains("adapter")
                && !problem.contains("--keep") =>
        {
            vec![
                "a model directory holds config.json, model.safetensors and the tokenizer.json that \
                 it was trained with"
                    .into(),
            ]
        }
        Error::Data(vxf_data::Error::UnknownWord { .. } | vxf_data::Error::MissingSpecials(_)) => {
            vec![
                "the embedded world and its tokenizer belong together: other texts need a model of your own \
                 (`--model DIR`), another tokenizer needs data of your own (a section `data` of a recipe)"
                    .into(),
            ]
        }
        Error::Run { source, .. } => {
            let mut all = vec![
                "finished work is kept: `vxf resume` or the same command continues".to_owned(),
            ];
            all.extend(hints(source));
            all
        }
        Error::Io { path, source, .. } if source.kind() == ErrorKind::NotADirectory => {
            let shown = path.display();
            vec![format!(
                "a file stands in the place of the directory {shown}; choose another one with `--output-dir`"
            )]
        }
        Error::Io { action: "create" | "write", .. } => {
            vec!["choose a writable directory with `--output-dir`".into()]
        }
        _ => Vec::new(),
    }
}

/// What to do about the directory `path`, if it is that of a run which its experiment has not begun.
fn not_begun(path: &Path) -> Option<String> {
    // Neither the run's directory nor, perhaps, that of its methods is there yet.
    let there = path.ancestors().find(|above| above.is_dir())?;
    let root = there.ancestors().find(|above| finished::manifest(above).is_ok())?;
    let run = path.strip_prefix(root).ok()?;
    let graph = finished::graph(root).ok()?;
    graph.runs.iter().any(|spec| spec.id.path() == run).then(|| {
        let root = root.display();
        format!("this run of {root} has not begun: `vxf resume {root}` does what is missing")
    })
}

/// What to do about a path that is no run of the kind that is wanted.
fn no_run(path: &Path, problem: &str) -> Vec<String> {
    let path = path.display();
    vec![match problem {
        _ if problem.starts_with("not finished") => format!("`vxf resume {path}` finishes it"),
        _ if problem.contains("the required run is not done") => format!(
            "`vxf runs {path}` lists its runs with their states, and `vxf resume {path}` does what is missing"
        ),
        _ if problem.contains("`--merged`") => {
            format!("`vxf export {path} --merged --output-dir DIR` writes a model directory")
        }
        _ if problem.contains("no manifest.json") => format!(
            "`vxf runs {path}` lists experiments; an aligned run is at EXPERIMENT/<defense>/aligned/<seed>"
        ),
        _ => "an aligned run is at EXPERIMENT/<defense>/aligned/<seed>".into(),
    }]
}

/// How a set is given, or done without.
fn no_set(who: &str, hint: &str) -> Vec<String> {
    let Some(section) = hint.strip_prefix('`').and_then(|rest| rest.strip_suffix("` is not set"))
    else {
        return Vec::new();
    };
    let without = match who {
        _ if who.starts_with("the metric") => {
            "; or list the metrics that you have data for: `metrics = [..]`"
        }
        _ if who.starts_with("the harmful ratio") && section == "data.harmful" => {
            "; or do without harmful samples: `harmful_ratios = [0.0]`"
        }
        _ => "",
    };
    let mut hints =
        vec![format!("add a section `[{section}]` with `path = \"..\"` to the recipe{without}")];
    if section.starts_with("data.") {
        hints.push("to try a model without data of your own, set `data.source = \"proxy\"`".into());
    }
    hints
}

/// Whether the disk is full.
fn is_full(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } | Error::Core(vxf_core::Error::Io { source, .. }) => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}

fn recipe_hints(error: &vxf_recipe::Error) -> Vec<String> {
    use vxf_recipe::{Error, UsualStage};
    match error {
        Error::RecipeFile { path, .. } => no_recipe(path),
        Error::Setting { problem, .. } if problem.key.starts_with("harmful_ratios") => {
            percent(&problem.key, &problem.found)
        }
        Error::Setting { problem, .. } if problem.rule.starts_with("is not a setting here") => {
            of_source(&problem.key).into_iter().collect()
        }
        Error::NotToml { excerpt, .. } => {
            vec![format!("the parser stopped here:\n{}", excerpt.trim_end())]
        }
        Error::WrongStage { name, belongs, .. } => belongs.first().map_or_else(Vec::new, |stage| {
            let section = UsualStage::of(*stage).defense;
            let flag = section.replace('_', "-");
            vec![format!(
                "write `--{flag} {name}`, or `[{section}] name = \"{name}\"` in a recipe"
            )]
        }),
        Error::TwoMakers { .. } => vec![
            "a comma compares methods (`a,b`), a plus composes them (`a+b`); `vxf show NAME` says which \
             ones can be composed"
                .into(),
        ],
        Error::Name { source, .. } => registered(source),
        _ => Vec::new(),
    }
}

/// How the unknown `key` is written, if it is a setting of a source of data that the recipe does not name.
fn of_source(key: &str) -> Option<String> {
    let sources = registry::entries::<dyn DataConfig>().ok()?;
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    // The source `world` has a section of its own; all others share `data`.
    let named = sources.iter().find(|source| source.name == section && section != "world");
    if let Some(Entry { name, .. }) = named {
        return Some(format!(
            "`{name}` is a source of data: write its settings in the section `[data]`, beside `source = \
             \"{name}\"`; `vxf show {name}` has an example"
        ));
    }
    if section != "data" {
        return None;
    }
    let has = |source: &&Entry<dyn DataConfig>| {
        (source.settings)().iter().any(|setting| setting.name == name)
    };
    let source = sources.iter().find(|source| has(source))?.name;
    Some(format!(
        "`{name}` is a setting of the source of data `{source}`: write `data.source = \"{source}\"` beside it"
    ))
}

/// What may be meant by a path that is no recipe.
fn no_recipe(path: &Path) -> Vec<String> {
    let shown = path.display();
    if path.is_dir() {
        return match Run::is_run(path) {
            true => vec![format!(
                "{shown} is an experiment or a run: `vxf resume {shown}` continues it, `vxf report {shown}` \
                 prints its results, and its recipe is config.resolved.toml"
            )],
            false => vec![format!(
                "{shown} is a directory; a recipe is a file, such as {shown}/recipe.toml"
            )],
        };
    }
    let name = shown.to_string();
    if vxf_core::registry::find::<dyn vxf_core::config::DefenseConfig>(&name).is_ok() {
        return vec![format!("{name} is a method: write `--defense {name}`, or `vxf show {name}`")];
    }
    if let Some((key, value)) = name.split_once('=') {
        let keys = vxf_recipe::reference::whole_keys(key.rsplit('.').next().unwrap_or(key));
        // A whole key says itself which of them is meant.
        if let Some(whole) = keys.iter().find(|whole| *whole == key).or(keys.first()) {
            return vec![format!("a setting is given with a flag: `--set {whole}={value}`")];
        }
    }
    match name.parse::<f64>() {
        Ok(_) => vec![
            "several values of a flag are written with commas: `--harmful-ratio 0.1,0.2`".into(),
        ],
        Err(_) if path.is_file() => {
            vec!["a recipe is a TOML file in UTF-8; `vxf init FILE` writes one".into()]
        }
        Err(_) => vec!["`vxf init` writes a recipe for what is there".into()],
    }
}

/// A share that was written as a percentage, or with a comma.
fn percent(key: &str, found: &str) -> Vec<String> {
    match found.parse::<f64>() {
        Ok(value)
            if value.fract() == 0.0
                && (2.0..10.0).contains(&value)
                && key != "harmful_ratios.0" =>
        {
            vec![format!(
                "a comma separates values: one share is written 0.{value}, and {value} % is written {}",
                value / 100.0
            )]
        }
        Ok(value) if value > 1.0 && value <= 100.0 => {
            vec![format!("{value} % is written {}", value / 100.0)]
        }
        _ => Vec::new(),
    }
}

/// Where plugins are described; the message itself names them.
fn registered(error: &vxf_core::Error) -> Vec<String> {
    match error {
        vxf_core::Error::UnknownPlugin { kind, known, .. } if !known.is_empty() => {
            vec![format!("`vxf list {kind}s` describes all of them")]
        }
        _ => Vec::new(),
    }
}
