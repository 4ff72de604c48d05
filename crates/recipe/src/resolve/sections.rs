//! Sections of a recipe: tables of documented settings.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use vxf_core::config::Documented;
use vxf_core::registry::{self, ConfigError};
use vxf_core::{Lora, Stage};

use crate::layer::Layer;
use crate::settings::{Settings, TrainingSettings};
use crate::{Error, Result};

/// A stage of the usual pipeline: its sections in a recipe, and its defaults.
#[derive(Clone, Copy, Debug)]
pub struct UsualStage {
    /// The kind of stage.
    pub kind: Stage,
    /// The section of the method.
    pub defense: &'static str,
    /// The section of the perturber.
    pub perturber: &'static str,
    /// The section of the training settings.
    pub training: &'static str,
    /// The default training set.
    pub set: &'static str,
    /// The default method; without one, the stage is optional.
    pub method: Option<&'static str>,
}

/// The usual pipeline.
pub const USUAL: [UsualStage; 3] = [
    UsualStage::of(Stage::Alignment),
    UsualStage::of(Stage::FineTuning),
    UsualStage::of(Stage::PostTuning),
];

impl UsualStage {
    /// The usual stage of this kind.
    pub const fn of(kind: Stage) -> Self {
        match kind {
            Stage::Alignment => Self {
                kind,
                defense: "defense",
                perturber: "perturber",
                training: "alignment",
                set: "alignment",
                method: Some("vaccine"),
            },
            Stage::FineTuning => Self {
                kind,
                defense: "fine_tune_defense",
                perturber: "fine_tune_perturber",
                training: "fine_tuning",
                set: "user",
                method: Some("sft"),
            },
            Stage::PostTuning => Self {
                kind,
                defense: "post_tune_defense",
                perturber: "post_tune_perturber",
                training: "post_tuning",
                set: "alignment",
                method: None,
            },
        }
    }
}

/// The sections of a recipe.
pub const SECTIONS: [&str; 16] = [
    "model",
    "world",
    "data",
    "stage",
    "defense",
    "perturber",
    "alignment",
    "fine_tune_defense",
    "fine_tune_perturber",
    "fine_tuning",
    "post_tune_defense",
    "post_tune_perturber",
    "post_tuning",
    "metrics",
    "judges",
    "axes",
];

/// The key of the schema version in a resolved recipe.
pub(super) const VERSION: &str = "schema_version";

pub(super) fn top_level(layer: &Layer) -> Result<Settings> {
    let own: Vec<_> = Settings::settings().iter().map(|setting| setting.name).collect();
    let other = |key: &str| SECTIONS.contains(&key) || key == VERSION;
    for (key, _) in layer.values() {
        if !own.contains(&key.as_str()) && !other(key) {
            let known: Vec<_> = own.iter().chain(&SECTIONS).map(|&key| key.to_owned()).collect();
            return Err(unknown(layer, key, key, &known));
        }
    }
    let values = layer.values().iter().filter(|(key, _)| !other(key));
    let values: Map<_, _> = values.map(|(key, value)| (key.clone(), value.clone())).collect();
    let settings: Settings = read(layer, "", Value::Object(values))?;
    check(layer, "", settings.validate())?;
    Ok(settings)
}

/// Reads the section `name`.
pub(super) fn section<T: DeserializeOwned + Documented>(layer: &Layer, name: &str) -> Result<T> {
    read(layer, name, Value::Object(table(layer, name)?))
}

/// Reads training settings from the table at `path`, without the keys in `other`.
pub(super) fn training(layer: &Layer, path: &str, other: &[&str]) -> Result<TrainingSettings> {
    let mut values = table(layer, path)?;
    values.retain(|key, _| !other.contains(&key.as_str()));
    if let Some(trainable) = values.get_mut("trainable") {
        // `trainable = "lora"` is short for `{ type = "lora" }`.
        if trainable.is_string() {
            *trainable = Value::Object(Map::from_iter([("type".to_owned(), trainable.take())]));
        }
        let path = format!("{path}.trainable");
        adapter_keys(layer, &path, trainable)?;
    }
    let settings: TrainingSettings = read(layer, path, Value::Object(values))?;
    check(layer, path, settings.validate())?;
    Ok(settings)
}

/// Serde does not report unknown keys of a tagged enum, so they are checked here.
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

pub(super) fn table(layer: &Layer, path: &str) -> Result<Map<String, Value>> {
    match layer.get(path) {
        None => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(other) => Err(Error::setting(layer.place(path), path, "must be a table", other)),
    }
}

fn read<T: DeserializeOwned + Documented>(layer: &Layer, section: &str, value: Value) -> Result<T> {
    registry::parse(value).map_err(|problem| placed(layer, section, problem))
}

pub(super) fn check(layer: &Layer, section: &str, checked: Result<(), ConfigError>) -> Result<()> {
    checked.map_err(|problem| placed(layer, section, problem))
}

/// Completes the key of a problem and adds its location.
pub(super) fn placed(layer: &Layer, section: &str, problem: ConfigError) -> Error {
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
