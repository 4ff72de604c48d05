//! Recipe file, flags and `--set`, laid over each other.

use std::path::Path;

use serde_json::{Value, json};
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::registry;
use vxf_run::layer::{Layer, Place};
use vxf_run::paths::{self, SeenFrom};
use vxf_run::recipe::Recipe;
use vxf_run::resolve::{PAPER_METRICS, resolve};
use vxf_run::{from, recipe_file};

use crate::args::{Choices, OneStage};
use crate::error::CommandError;

/// The recipe that a file and flags make together: flags win over the file, `--set` over both.
/// All files that it names are there.
pub(crate) fn recipe(file: Option<&Path>, choices: &Choices) -> Result<Recipe, CommandError> {
    let layer = laid(file.map_or_else(|| Ok(Layer::new()), recipe_file::read)?, choices)?;
    let recipe = resolve(layer.clone())?;
    paths::check(&layer)?;
    Ok(recipe)
}

/// The recipe that flags make of the settings in `file`.
pub(crate) fn upon(file: Layer, choices: &Choices) -> Result<Recipe, CommandError> {
    Ok(resolve(laid(file, choices)?)?)
}

/// Flags over the settings in `file`, and `--set` over both.
fn laid(file: Layer, choices: &Choices) -> Result<Layer, CommandError> {
    let mut set = sets(&choices.set)?;
    paths::make_absolute(&mut set, SeenFrom::Command(Path::new("")))?;
    let mut flags = flags(choices)?;
    paths::make_absolute(&mut flags, SeenFrom::Command(Path::new("")))?;
    let mut layer = flags.over(file);
    if let Some(run) = set.text("from").or_else(|| layer.text("from")).filter(|run| !run.is_empty())
    {
        layer = layer.clone().over(from::layer(Path::new(run))?);
    }
    metrics(&mut layer, &choices.metric)?;
    if let Some(rho) = choices.rho {
        radius(&mut layer, &set, rho)?;
    }
    Ok(set.over(layer))
}

fn flags(choices: &Choices) -> Result<Layer, CommandError> {
    let mut layer = Layer::new();
    let mut set = |flag: &str, key: &str, value: Option<Value>| match value {
        Some(value) => layer.set(key, value, Place::Flag(format!("--{flag}"))),
        None => Ok(()),
    };
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| json!(path.display().to_string()))
    };
    set("defense", "defense.name", choices.defense.as_ref().map(|name| json!(name)))?;
    set("perturber", "perturber.name", choices.perturber.as_ref().map(|name| json!(name)))?;
    let user = choices.fine_tune_defense.as_ref().map(|name| json!(name));
    set("fine-tune-defense", "fine_tune_defense.name", user)?;
    set("model", "model.path", choices.model.as_ref().map(|model| json!(model)))?;
    set("dtype", "model.dtype", choices.dtype.as_ref().map(|dtype| json!(dtype)))?;
    set("judge", "judges", (!choices.judge.is_empty()).then(|| json!(choices.judge)))?;
    set("skip-bad-rows", "data.skip_bad_rows", choices.skip_bad_rows.then(|| json!(true)))?;
    set("task", "world.task", choices.task.as_ref().map(|task| json!(task)))?;
    let list = |values: &[f64]| (!values.is_empty()).then(|| json!(values));
    set("harmful-ratio", "harmful_ratios", list(&choices.harmful_ratio))?;
    set("seed", "seeds", (!choices.seed.is_empty()).then(|| json!(choices.seed)))?;
    let stage = choices.stage.map(|stage| match stage {
        OneStage::Alignment => json!("alignment"),
        OneStage::FineTuning => json!("fine_tuning"),
    });
    set("stage", "stages", stage)?;
    set("from", "from", path(&choices.from))?;
    set("eval-every", "eval_every", choices.eval_every.map(|steps| json!(steps)))?;
    set("device", "device", choices.device.as_ref().map(|device| json!(device)))?;
    set("threads", "threads", choices.threads.map(|threads| json!(threads)))?;
    set("recompute", "recompute", choices.recompute.as_ref().map(|what| json!(what)))?;
    set("no-baseline", "baseline", choices.no_baseline.then(|| json!(false)))?;
    set("no-undefended", "undefended", choices.no_undefended.then(|| json!(false)))?;
    if let Some(ratio) = choices.harmful_ratio.iter().find(|ratio| !ratio.is_finite()) {
        let rule = format!("--harmful-ratio: must lie between 0 and 1, got {ratio}");
        return Err(CommandError::usage(rule));
    }
    Ok(layer)
}

fn sets(pairs: &[String]) -> Result<Layer, CommandError> {
    let mut layer = Layer::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(CommandError::usage(format!("--set {pair}: must be KEY=VALUE"))
                .hint("for example `--set perturber.rho=2`"));
        };
        let key = key.trim();
        let place = Place::Flag(format!("--set {key}"));
        layer.set(key, recipe_file::parse_value(value.trim(), &place, key)?, place)?;
    }
    Ok(layer.spelled_out()?)
}

/// `--metric` adds to what is measured, and shows it in full.
fn metrics(layer: &mut Layer, named: &[String]) -> Result<(), CommandError> {
    if named.is_empty() {
        return Ok(());
    }
    let place = || Place::Flag("--metric".into());
    let mut all = match layer.get("metrics") {
        Some(Value::Array(listed)) => listed.clone(),
        _ => PAPER_METRICS.iter().map(|name| json!(name)).collect(),
    };
    for name in named {
        let is = |item: &Value| item.as_str().or_else(|| item["name"].as_str()) == Some(name);
        if !all.iter().any(is) {
            all.push(json!(name));
        }
    }
    layer.set("metrics", all.into(), place())?;
    let mut detail: Vec<String> = Vec::new();
    for name in named {
        if !detail.contains(name) {
            detail.push(name.clone());
        }
    }
    Ok(layer.set("detail", json!(detail), place())?)
}

/// `--rho` is the radius of whatever perturber is in use, if it has one.
fn radius(layer: &mut Layer, set: &Layer, rho: f64) -> Result<(), CommandError> {
    let text = |key: &str| set.text(key).or_else(|| layer.text(key)).map(str::to_owned);
    let perturber = match text("perturber.name").or_else(|| text("perturber")) {
        Some(name) => name,
        None => {
            let defense = text("defense.name").or_else(|| text("defense"));
            let defense = defense.unwrap_or_else(|| "vaccine".into());
            // A name that is not registered is told of later, with its place.
            match registry::default_of::<dyn DefenseConfig>(&defense) {
                Ok(config) => config.perturber().to_owned(),
                Err(_) => return Ok(()),
            }
        }
    };
    if !rho.is_finite() {
        return Err(CommandError::usage(format!(
            "--rho: must be finite and at least 0, got {rho}"
        )));
    }
    let has = |name: &str| {
        let entry = registry::find::<dyn PerturberConfig>(name);
        entry.is_ok_and(|entry| (entry.settings)().iter().any(|setting| setting.name == "rho"))
    };
    if registry::find::<dyn PerturberConfig>(&perturber).is_ok() && !has(&perturber) {
        let all = registry::entries::<dyn PerturberConfig>()?;
        let with: Vec<_> = all.iter().map(|entry| entry.name).filter(|name| has(name)).collect();
        return Err(CommandError::usage(format!(
            "--rho: perturber `{perturber}` has no radius rho"
        ))
        .hint(format!("perturbers with one, for `--perturber`: {}", with.join(", "))));
    }
    Ok(layer.set("perturber.rho", json!(rho), Place::Flag("--rho".into()))?)
}
