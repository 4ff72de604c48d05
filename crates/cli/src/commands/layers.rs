//! Combines recipe file, flags and `--set`.

use std::path::Path;

use serde_json::{Value, json};
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::registry;
use vxf_recipe::paths::{self, SeenFrom};
use vxf_recipe::settings::EMBEDDED;
use vxf_recipe::{Experiment, Layer, Place, default_metrics_of};
use vxf_run::from;

use crate::args::RecipeOptions;
use crate::error::CommandError;

/// The experiment of a recipe file and flags: flags override the file, `--set` overrides both. Checks
/// that all local files exist.
pub(crate) fn recipe(
    file: Option<&Path>,
    choices: &RecipeOptions,
) -> Result<Experiment, CommandError> {
    let layer = layer(file, choices)?;
    let experiment = Experiment::of(layer.clone())?;
    paths::check(&layer)?;
    Ok(experiment)
}

/// The settings of a recipe file and flags, before they are resolved.
pub(crate) fn layer(file: Option<&Path>, choices: &RecipeOptions) -> Result<Layer, CommandError> {
    laid(file.map_or_else(|| Ok(Layer::new()), vxf_recipe::file::read)?, choices)
}

/// The experiment of the settings in `file`, changed by the flags.
pub(crate) fn upon(file: Layer, choices: &RecipeOptions) -> Result<Experiment, CommandError> {
    Ok(Experiment::of(laid(file, choices)?)?)
}

/// The settings in `file`, overridden by flags and by `--set`.
fn laid(file: Layer, choices: &RecipeOptions) -> Result<Layer, CommandError> {
    let mut set = sets(&choices.set)?;
    paths::make_absolute(&mut set, SeenFrom::Command(Path::new("")))?;
    let mut flags = flags(choices)?;
    paths::make_absolute(&mut flags, SeenFrom::Command(Path::new("")))?;
    let mut layer = flags.over(file);
    if let Some(run) = set.text("from").or_else(|| layer.text("from")).filter(|run| !run.is_empty())
    {
        layer = layer.clone().over(from::layer(Path::new(run))?);
    }
    without_data(&mut layer, &set)?;
    draws(&mut layer, &set, choices.samples_per_prompt)?;
    metrics(&mut layer, &choices.metric)?;
    radius(&mut layer, &set, &choices.rho)?;
    Ok(set.over(layer))
}

/// The data source of a model that comes without data.
const STAND_IN: &str = "proxy";

/// Names the data source for a model of the user's own, if neither a recipe nor a flag has data.
fn without_data(layer: &mut Layer, set: &Layer) -> Result<(), CommandError> {
    let get = |key: &str| set.get(key).or_else(|| layer.get(key));
    let one = get("model.path").and_then(Value::as_str);
    let several = get("axes.model.path").and_then(Value::as_array);
    let several = several.into_iter().flatten().filter_map(Value::as_str);
    let mut models = one.into_iter().chain(several).peekable();
    let own = models.peek().is_some() && models.all(|path| path != EMBEDDED);
    if own && get("data").is_none() && get("world").is_none() {
        layer.set("data.source", json!(STAND_IN), Place::Default)?;
    }
    Ok(())
}

/// Sets a flag's value: several values make an axis `key`, a single value is set at `single`.
fn axis(
    layer: &mut Layer,
    flag: &str,
    key: &str,
    single: &str,
    text: Option<&str>,
) -> Result<(), CommandError> {
    let place = Place::Flag(format!("--{flag}"));
    match text {
        None => {}
        Some(text) if text.contains(',') => {
            let names: Vec<_> = text.split(',').map(|name| json!(name.trim())).collect();
            layer.set(&format!("axes.{key}"), names.into(), place)?;
        }
        Some(text) => layer.set(single, json!(text), place)?,
    }
    Ok(())
}

fn flags(choices: &RecipeOptions) -> Result<Layer, CommandError> {
    let mut layer = Layer::new();
    for (flag, key, text) in [
        ("defense", "defense", &choices.defense),
        ("perturber", "perturber", &choices.perturber),
        ("fine-tune-defense", "fine_tune_defense", &choices.fine_tune_defense),
        ("post-tune-defense", "post_tune_defense", &choices.post_tune_defense),
    ] {
        axis(&mut layer, flag, key, &format!("{key}.name"), text.as_deref())?;
    }
    axis(&mut layer, "model", "model.path", "model.path", choices.model.as_deref())?;
    axis(&mut layer, "task", "world.task", "world.task", choices.task.as_deref())?;
    let mut set = |flag: &str, key: &str, value: Option<Value>| match value {
        Some(value) => layer.set(key, value, Place::Flag(format!("--{flag}"))),
        None => Ok(()),
    };
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| json!(path.display().to_string()))
    };
    set("base", "model.base", choices.base.as_ref().map(|base| json!(base)))?;
    set("dtype", "model.dtype", choices.dtype.as_ref().map(|dtype| json!(dtype)))?;
    set("judge", "judges", (!choices.judge.is_empty()).then(|| json!(choices.judge)))?;
    set("skip-bad-rows", "data.skip_bad_rows", choices.skip_bad_rows.then(|| json!(true)))?;
    let list = |values: &[f64]| (!values.is_empty()).then(|| json!(values));
    set("harmful-ratio", "harmful_ratios", list(&choices.harmful_ratio))?;
    set("seed", "seeds", (!choices.seed.is_empty()).then(|| json!(choices.seed)))?;
    set("stage", "stages", choices.stage.map(|stage| json!(stage)))?;
    set("from", "from", path(&choices.from))?;
    set("eval-every", "eval_every", choices.eval_every.map(|steps| json!(steps)))?;
    set("eval-prompts", "eval_prompts", choices.eval_prompts.map(|prompts| json!(prompts)))?;
    set("device", "device", choices.device.as_ref().map(|device| json!(device)))?;
    set("threads", "threads", choices.threads.map(|threads| json!(threads)))?;
    set("recompute", "recompute", choices.recompute.as_ref().map(|what| json!(what)))?;
    set("keep", "keep", choices.keep.as_ref().map(|what| json!(what)))?;
    set("no-baseline", "baseline", choices.no_baseline.then(|| json!(false)))?;
    set("no-undefended", "undefended", choices.no_undefended.then(|| json!(false)))?;
    if let Some(ratio) = choices.harmful_ratio.iter().find(|ratio| !ratio.is_finite()) {
        let rule = format!("--harmful-ratio: must lie between 0 and 1, got {ratio}");
        return Err(CommandError::usage(rule));
    }
    Ok(layer)
}

pub(crate) fn sets(pairs: &[String]) -> Result<Layer, CommandError> {
    sets_of("--set", pairs)
}

/// The settings `KEY=VALUE` that were given with `flag`.
pub(crate) fn sets_of(flag: &str, pairs: &[String]) -> Result<Layer, CommandError> {
    let mut layer = Layer::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(CommandError::usage(format!("{flag} {pair}: must be KEY=VALUE"))
                .hint(format!("for example `{flag} perturber.rho=2`")));
        };
        let key = key.trim();
        let place = Place::Flag(format!("{flag} {key}"));
        let parse = |text: &str| vxf_recipe::file::parse_value(text.trim(), &place, key);
        let pieces = pieces(value);
        match pieces.as_slice() {
            [_] => layer.set(key, parse(value)?, place.clone())?,
            several => {
                let values =
                    several.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
                // A setting that is a list is not an axis.
                match LISTS.contains(&key) {
                    true => layer.set(key, values.into(), place.clone())?,
                    false => layer.set(&format!("axes.{key}"), values.into(), place.clone())?,
                }
            }
        }
    }
    Ok(layer.spelled_out()?)
}

/// Settings that are lists: several values make one list.
const LISTS: [&str; 5] = ["seeds", "harmful_ratios", "metrics", "judges", "detail"];

/// Splits at commas outside of brackets and quotes.
fn pieces(text: &str) -> Vec<&str> {
    let (mut all, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                all.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    all.push(&text[begin..]);
    all
}

/// `--samples-per-prompt` is a setting of the data; several answers need a temperature.
fn draws(layer: &mut Layer, set: &Layer, count: Option<usize>) -> Result<(), CommandError> {
    let Some(count) = count else { return Ok(()) };
    let section = if layer.get("data").is_some() { "data" } else { "world" };
    let place = || Place::Flag("--samples-per-prompt".into());
    layer.set(&format!("{section}.sampling.samples_per_prompt"), json!(count), place())?;
    let temperature = format!("{section}.sampling.temperature");
    if count > 1 && layer.get(&temperature).is_none() && set.get(&temperature).is_none() {
        layer.set(&temperature, json!(1.0), place())?;
    }
    Ok(())
}

/// `--metric` adds a metric and shows it in full.
fn metrics(layer: &mut Layer, named: &[String]) -> Result<(), CommandError> {
    if named.is_empty() {
        return Ok(());
    }
    let place = || Place::Flag("--metric".into());
    let mut all = match layer.get("metrics") {
        Some(Value::Array(listed)) => listed.clone(),
        _ => default_metrics_of(layer)?.into_iter().map(|name| json!(name)).collect(),
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

/// `--rho` sets the radius of the perturber in use, if that has one.
fn radius(layer: &mut Layer, set: &Layer, radii: &[f64]) -> Result<(), CommandError> {
    if radii.is_empty() {
        return Ok(());
    }
    if let Some(rho) = radii.iter().find(|rho| !rho.is_finite()) {
        return Err(CommandError::usage(format!(
            "--rho: must be finite and at least 0, got {rho}"
        )));
    }
    let text = |key: &str| set.text(key).or_else(|| layer.text(key)).map(str::to_owned);
    let several = |key: &str| {
        let names = set.get(key).or_else(|| layer.get(key)).and_then(Value::as_array)?;
        let name =
            |value: &Value| value.as_str().or_else(|| value["name"].as_str()).map(str::to_owned);
        Some(names.iter().filter_map(name).collect::<Vec<_>>())
    };
    let named = text("perturber.name").or_else(|| text("perturber"));
    let perturbers = match several("axes.perturber").or_else(|| named.map(|name| vec![name])) {
        Some(names) => names,
        None => {
            let defense = text("defense.name").or_else(|| text("defense"));
            let defenses = several("axes.defense")
                .unwrap_or_else(|| vec![defense.unwrap_or_else(|| "vaccine".into())]);
            let own = |name: &String| {
                // An unknown name is reported later, with its location.
                let maker = name.split('+').next().unwrap_or(name);
                let config = registry::default_of::<dyn DefenseConfig>(maker).ok()?;
                Some(config.perturber().to_owned())
            };
            defenses.iter().filter_map(own).collect()
        }
    };
    let has = |name: &str| {
        let entry = registry::find::<dyn PerturberConfig>(name);
        entry.is_ok_and(|entry| (entry.settings)().iter().any(|setting| setting.name == "rho"))
    };
    let known = |name: &&String| registry::find::<dyn PerturberConfig>(name).is_ok();
    if let Some(perturber) = perturbers.iter().filter(known).find(|name| !has(name)) {
        let all = registry::entries::<dyn PerturberConfig>()?;
        let with: Vec<_> = all.iter().map(|entry| entry.name).filter(|name| has(name)).collect();
        return Err(CommandError::usage(format!(
            "--rho: perturber `{perturber}` has no radius rho"
        ))
        .hint(format!("perturbers with one, for `--perturber`: {}", with.join(", "))));
    }
    let place = Place::Flag("--rho".into());
    match radii {
        [rho] => layer.set("perturber.rho", json!(rho), place)?,
        several => layer.set("axes.perturber.rho", json!(several), place)?,
    }
    Ok(())
}
