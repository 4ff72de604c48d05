//! From layers of settings to a recipe with every choice made.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use vxf_core::config::{DefenseConfig, Documented, JudgeConfig, MetricConfig, PerturberConfig};
use vxf_core::registry::{self, ConfigError, Entry, Kind};
use vxf_core::{Lora, Stage};

use crate::data_settings::DataSettings;
use crate::layer::Layer;
use crate::overlay;
use crate::recipe::{Chosen, Data, Method, Recipe};
use crate::settings::{EMBEDDED, ModelSettings, Profile, Settings, TrainingSettings, World};
use crate::{Error, Result};

/// The four figures of the paper, by the metrics that take them.
pub const PAPER_METRICS: [&str; 4] = ["harmful-score", "accuracy", "alignment-loss", "drift"];

/// The sections of a recipe, besides the settings outside all sections.
pub const SECTIONS: [&str; 10] = [
    "model",
    "world",
    "data",
    "defense",
    "perturber",
    "fine_tune_defense",
    "alignment",
    "fine_tuning",
    "metrics",
    "judges",
];

/// Fills in defaults, reads every section and checks every rule that needs no model.
///
/// # Errors
/// On an unknown key or name, a wrong type, a value out of range, a method in the wrong stage;
/// each with the place where it was written.
pub fn resolve(layer: Layer) -> Result<Recipe> {
    let layer = layer.spelled_out()?;
    let files = layer.get("data").is_some();
    let layer = match files {
        true => layer.over(overlay::of_paper()),
        false => {
            let profile = profile(&layer)?;
            layer.over(overlay::of_profile(profile))
        }
    };

    let settings = top_level(&layer)?;
    let model: ModelSettings = section(&layer, "model")?;
    let embedded = model.path == EMBEDDED;
    let data = data(&layer, files)?;

    let defense = plugin::<dyn DefenseConfig>(&layer, "defense", "vaccine", embedded)?;
    in_stage(&layer, "defense", &defense, Stage::Alignment)?;
    let inner = defense.config.perturber();
    let perturber = plugin::<dyn PerturberConfig>(&layer, "perturber", inner, embedded)?;
    let user = plugin::<dyn DefenseConfig>(&layer, "fine_tune_defense", "sft", embedded)?;
    in_stage(&layer, "fine_tune_defense", &user, Stage::FineTuning)?;

    let metrics = PAPER_METRICS.map(|name| Value::String(name.to_owned()));
    let metrics = plugins::<dyn MetricConfig>(&layer, "metrics", &metrics, embedded)?;
    // The world's judge knows the world alone; a floor of keywords needs no model.
    let judge = Value::from(if files { "refusal" } else { "world" });
    let judges = plugins::<dyn JudgeConfig>(&layer, "judges", &[judge], embedded)?;
    let measured: Vec<_> = metrics.iter().map(|metric| metric.name.to_owned()).collect();
    for (index, name) in settings.detail.iter().enumerate() {
        if !measured.contains(name) {
            let path = format!("detail.{index}");
            let rule = format!("must be one of the metrics ({})", measured.join(", "));
            return Err(Error::setting(layer.place(&path), &path, rule, name));
        }
    }
    Ok(Recipe {
        alignment_method: Method { defense, perturber },
        fine_tuning_method: with_own_perturber(user, embedded)?,
        alignment: alignment(&layer)?,
        fine_tuning: training(&layer, "fine_tuning")?,
        settings,
        model,
        data,
        metrics,
        judges,
    })
}

fn profile(layer: &Layer) -> Result<Profile> {
    match layer.text("world.profile") {
        None => Ok(World::default().profile),
        Some(text) => text.parse::<Profile>().map_err(|rule| {
            Error::setting(layer.place("world.profile"), "world.profile", rule, format!("{text:?}"))
        }),
    }
}

/// The user's files if there is a section for them, else the embedded world.
fn data(layer: &Layer, files: bool) -> Result<Data> {
    if !files {
        let world: World = section(layer, "world")?;
        check(layer, "world", world.validate())?;
        return Ok(Data::World(world));
    }
    if let Some(world) = layer.get("world") {
        let rule = "goes with the embedded world alone, and `data` names files";
        return Err(Error::setting(layer.place("world"), "world", rule, world));
    }
    let files: DataSettings = section(layer, "data")?;
    check(layer, "data", files.validate())?;
    Ok(Data::Files(Box::new(files)))
}

/// A defence with the inner player it uses unless told otherwise.
pub(crate) fn with_own_perturber(
    defense: Chosen<dyn DefenseConfig>,
    embedded: bool,
) -> Result<Method> {
    let name = defense.config.perturber();
    let perturber = plugin::<dyn PerturberConfig>(&Layer::new(), "perturber", name, embedded)?;
    Ok(Method { defense, perturber })
}

/// The defence called `name` with the world's defaults, or else its own.
pub(crate) fn method(name: &'static str, embedded: bool) -> Result<Method> {
    let defense = plugin::<dyn DefenseConfig>(&Layer::new(), "defense", name, embedded)?;
    with_own_perturber(defense, embedded)
}

fn top_level(layer: &Layer) -> Result<Settings> {
    let own: Vec<_> = Settings::settings().iter().map(|setting| setting.name).collect();
    let is_section = |key: &str| SECTIONS.contains(&key);
    for (key, _) in layer.values() {
        if !own.contains(&key.as_str()) && !is_section(key) {
            let known: Vec<_> = own.iter().chain(&SECTIONS).map(|&key| key.to_owned()).collect();
            return Err(unknown(layer, key, key, &known));
        }
    }
    let values = layer.values().iter().filter(|(key, _)| !is_section(key));
    let values: Map<_, _> = values.map(|(key, value)| (key.clone(), value.clone())).collect();
    let settings: Settings = read(layer, "", Value::Object(values))?;
    check(layer, "", settings.validate())?;
    Ok(settings)
}

/// Reads the section `name`.
fn section<T: DeserializeOwned + Documented>(layer: &Layer, name: &str) -> Result<T> {
    read(layer, name, Value::Object(table(layer, name)?))
}

fn alignment(layer: &Layer) -> Result<TrainingSettings> {
    let settings = training(layer, "alignment")?;
    let path = "alignment.continue_adapter";
    if settings.continue_adapter {
        let rule = "goes with `fine_tuning` alone: alignment has no adapter before it";
        return Err(Error::setting(layer.place(path), path, rule, "true"));
    }
    Ok(settings)
}

fn training(layer: &Layer, name: &str) -> Result<TrainingSettings> {
    let mut values = table(layer, name)?;
    if let Some(trainable) = values.get_mut("trainable") {
        // `trainable = "lora"` is short for `{ type = "lora" }`.
        if trainable.is_string() {
            *trainable = Value::Object(Map::from_iter([("type".to_owned(), trainable.take())]));
        }
        let path = format!("{name}.trainable");
        adapter_keys(layer, &path, trainable)?;
    }
    let settings: TrainingSettings = read(layer, name, Value::Object(values))?;
    check(layer, name, settings.validate())?;
    Ok(settings)
}

/// Serde loses the keys inside a tagged choice, so they are looked at here.
fn adapter_keys(layer: &Layer, path: &str, trainable: &Value) -> Result<()> {
    let Some(object) = trainable.as_object() else { return Ok(()) };
    let mut known = vec!["type".to_owned()];
    if object.get("type").and_then(Value::as_str) == Some("lora") {
        let defaults = vxf_core::config::json(&Lora::default());
        known.extend(defaults.as_object().into_iter().flat_map(|map| map.keys().cloned()));
        known.extend(Lora::ALIASES.map(|(alias, _)| alias.to_owned()));
    }
    match object.iter().find(|(key, _)| !known.contains(key)) {
        Some((key, _)) => Err(unknown(layer, &format!("{path}.{key}"), key, &known)),
        None => Ok(()),
    }
}

/// The plugins that the list `key` names; without it, `default`.
fn plugins<C: Kind + ?Sized>(
    layer: &Layer,
    key: &str,
    default: &[Value],
    embedded: bool,
) -> Result<Vec<Chosen<C>>> {
    let listed = match layer.get(key) {
        None => default.to_vec(),
        Some(Value::Array(items)) => items.clone(),
        Some(other) => {
            let rule = "must be a list of names, or of tables with a `name`";
            return Err(Error::setting(layer.place(key), key, rule, other));
        }
    };
    let mut chosen: Vec<Chosen<C>> = Vec::new();
    for (index, item) in listed.into_iter().enumerate() {
        let path = format!("{key}.{index}");
        let plugin = of_value::<C>(layer, &path, Some(item), None, embedded)?;
        if chosen.iter().any(|known| known.name == plugin.name) {
            let rule = "must not be listed twice";
            return Err(Error::setting(layer.place(&path), &path, rule, plugin.name));
        }
        chosen.push(plugin);
    }
    Ok(chosen)
}

/// Reads the plugin section `name`; without a name in it, `default` is meant.
fn plugin<C: Kind + ?Sized>(
    layer: &Layer,
    section: &str,
    default: &'static str,
    embedded: bool,
) -> Result<Chosen<C>> {
    of_value(layer, section, layer.get(section).cloned(), Some(default), embedded)
}

fn of_value<C: Kind + ?Sized>(
    layer: &Layer,
    path: &str,
    value: Option<Value>,
    default: Option<&str>,
    embedded: bool,
) -> Result<Chosen<C>> {
    let wrong = |key: &str, rule: &str, found: &Value| {
        Err(Error::setting(layer.place(key), key, rule, found))
    };
    let mut settings = match value {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(name @ Value::String(_)) => Map::from_iter([("name".to_owned(), name)]),
        Some(other) => return wrong(path, "must be a name, or a table with a `name`", &other),
    };
    let name_path = format!("{path}.name");
    let name = match (settings.remove("name"), default) {
        (Some(Value::String(name)), _) => name,
        (Some(other), _) => return wrong(&name_path, "must be a name", &other),
        (None, Some(default)) => default.to_owned(),
        (None, None) => return wrong(path, "needs a `name`", &Value::Object(settings)),
    };
    let entry: &Entry<C> = registry::find::<C>(&name).map_err(|source| Error::Name {
        place: layer.place(&name_path),
        source: Box::new(source),
    })?;
    if embedded {
        for (key, value) in overlay::of_plugin(C::NAME, entry.name) {
            settings.entry(key).or_insert(value);
        }
    }
    let config = (entry.parse)(Value::Object(settings));
    let config = config.map_err(|problem| placed(layer, path, problem))?;
    Ok(Chosen { name: entry.name, config: Arc::from(config) })
}

fn in_stage(
    layer: &Layer,
    section: &str,
    chosen: &Chosen<dyn DefenseConfig>,
    stage: Stage,
) -> Result<()> {
    let entry = registry::find::<dyn DefenseConfig>(chosen.name)?;
    if entry.stages.contains(&stage) {
        return Ok(());
    }
    let belongs: Vec<_> = entry.stages.iter().map(Stage::to_string).collect();
    Err(Error::WrongStage {
        place: layer.place(&format!("{section}.name")),
        name: chosen.name.to_owned(),
        belongs: belongs.join(" or "),
        stage: if stage == Stage::Alignment { "alignment" } else { "fine_tuning" },
    })
}

fn table(layer: &Layer, name: &str) -> Result<Map<String, Value>> {
    match layer.get(name) {
        None => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(other) => Err(Error::setting(layer.place(name), name, "must be a table", other)),
    }
}

fn read<T: DeserializeOwned + Documented>(layer: &Layer, section: &str, value: Value) -> Result<T> {
    registry::parse(value).map_err(|problem| placed(layer, section, problem))
}

fn check(layer: &Layer, section: &str, checked: Result<(), ConfigError>) -> Result<()> {
    checked.map_err(|problem| placed(layer, section, problem))
}

/// The problem with the whole path of its key and the place where that was written.
fn placed(layer: &Layer, section: &str, problem: ConfigError) -> Error {
    let key = match (section.is_empty(), problem.key.is_empty()) {
        (true, _) => problem.key,
        (false, true) => section.to_owned(),
        (false, false) => format!("{section}.{}", problem.key),
    };
    // Serde writes list items as `seeds[1]`.
    let path = key.replace('[', ".").replace(']', "");
    Error::Setting { place: layer.place(&path), problem: Box::new(ConfigError { key, ..problem }) }
}

fn unknown(layer: &Layer, path: &str, key: &str, known: &[String]) -> Error {
    let problem = Box::new(ConfigError::unknown_key(path, key, known));
    Error::Setting { place: layer.place(path), problem }
}
