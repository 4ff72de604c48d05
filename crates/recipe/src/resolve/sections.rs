//! Sections of a recipe: tables of documented settings.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use vxf_core::config::Documented;
use vxf_core::registry::{self, ConfigError, nearest};
use vxf_core::{Lora, Stage};

use crate::foreign::suggested;
use crate::layer::Layer;
use crate::reference::home;
use crate::settings::{Settings, TrainingSettings, WORLD};
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
    WORLD,
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

/// Serde does not report unknown keys of a tagged enum, nor which of its values is wrong, so they are
/// checked here.
fn adapter_keys(layer: &Layer, path: &str, trainable: &Value) -> Result<()> {
    let Some(object) = trainable.as_object() else { return Ok(()) };
    let at = |key: &str| format!("{path}.{key}");
    let defaults = vxf_core::config::json(&Lora::default());
    let mut known = vec!["type".to_owned()];
    match object.get("type").and_then(Value::as_str) {
        Some("lora") => {
            known.extend(defaults.as_object().into_iter().flat_map(|map| map.keys().cloned()));
            known.extend(Lora::ALIASES.map(|(alias, _)| alias.to_owned()));
        }
        Some("full") => {}
        other => {
            let found = other.map_or("nothing".to_owned(), str::to_owned);
            let (key, rule) = (at("type"), "must be full or lora");
            return Err(Error::setting(layer.place(&key), &key, rule, found));
        }
    }
    if let Some((key, _)) = object.iter().find(|(key, _)| !known.contains(key)) {
        return Err(unknown(layer, &at(key), key, &known));
    }
    for (key, value) in object {
        let rule = match defaults.get(key) {
            Some(Value::Number(default)) if default.is_u64() && !value.is_u64() => "a whole number",
            Some(Value::Number(_)) if !value.is_number() => "a number",
            Some(Value::Bool(_)) if !value.is_boolean() => "true or false",
            _ => continue,
        };
        let rule = format!("must be {rule}");
        return Err(Error::setting(layer.place(&at(key)), &at(key), &rule, value));
    }
    Ok(())
}

pub(super) fn table(layer: &Layer, path: &str) -> Result<Map<String, Value>> {
    match layer.get(path) {
        None => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(text @ Value::String(_)) if path == "model" => {
            let rule = format!("must be a table: write `model.path = {text}`");
            Err(Error::setting(layer.place(path), path, &rule, text))
        }
        Some(other) => Err(Error::setting(layer.place(path), path, "must be a table", other)),
    }
}

fn read<T: DeserializeOwned + Documented>(layer: &Layer, section: &str, value: Value) -> Result<T> {
    let known: Vec<_> = T::settings().iter().map(|setting| setting.name.to_owned()).collect();
    if let Some(key) =
        value.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| !known.contains(key))
    {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        return Err(unknown(layer, &path, key, &known));
    }
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
    let rule = in_words(&problem.rule).unwrap_or(problem.rule);
    let found = match (layer.get(&path), problem.found) {
        // Serde does not look into lists.
        (Some(value), found) if path != key && !found.is_empty() => value.to_string(),
        (_, found) => found,
    };
    Error::Setting {
        place: layer.place(&path),
        problem: Box::new(ConfigError { key, rule, found }),
    }
}

/// The rule about a value of a wrong type or an unknown name, in the words of a recipe; none if the rule is
/// about something else.
fn in_words(rule: &str) -> Option<String> {
    if let Some((_, rest)) = rule.split_once("(unknown variant ") {
        let (_, known) = rest.strip_suffix(')')?.split_once(", expected ")?;
        return Some(format!("must be {}", known.replace('`', "")));
    }
    // A negative number is of the right type, but not one of its values.
    let found = ["(invalid type: ", "(invalid value: "].into_iter();
    let (_, rest) = found.filter_map(|start| rule.split_once(start)).next()?;
    let (_, expected) = rest.strip_suffix(')')?.rsplit_once(", expected ")?;
    let words = match expected {
        "f64" | "f32" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a boolean" => "true or false",
        "a string" | "string" => "a text in quotes",
        "a sequence" => "a list, such as [1] or [\"a\", \"b\"]",
        "a map" => "a table",
        text if text.starts_with("struct ") => "a table",
        _ => return None,
    };
    Some(format!("must be {words}"))
}

/// The error about an unknown key: what another program's name is called here, the nearest of the `known`
/// keys, or where the key belongs.
pub(super) fn unknown(layer: &Layer, path: &str, key: &str, known: &[String]) -> Error {
    let section = path.strip_suffix(key).map_or("", |section| section.trim_end_matches('.'));
    let elsewhere = || {
        // Two plugins of one name are reported where plugins are looked up.
        let home = nearest(key, known).is_empty().then(|| home(key).ok().flatten()).flatten()?;
        let rule = format!("is not a setting here; {home}");
        Some(ConfigError { key: path.to_owned(), rule, found: String::new() })
    };
    let problem = suggested(section, key, known).or_else(elsewhere);
    let problem = problem.unwrap_or_else(|| ConfigError::unknown_key(path, key, known));
    Error::Setting { place: layer.place(path), problem: Box::new(problem) }
}
