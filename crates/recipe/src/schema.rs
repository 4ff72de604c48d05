//! The JSON Schema of recipes, for editors: made from the settings' own definitions.

use serde_json::{Map, Value, json};
use vxf_core::config::{
    DefenseConfig, Documented, JudgeConfig, MetricConfig, PerturberConfig, Setting,
};
use vxf_core::registry::{self, Entry, Kind};
use vxf_core::{Lora, Stage};
use vxf_data::{DataConfig, Source};

use crate::Result;
use crate::resolve::USUAL;
use crate::settings::{FILES, ModelSettings, Settings, TrainingSettings, WORLD};

/// The schema, by the 2020-12 draft.
///
/// # Errors
/// When two plugins have the same name.
pub fn schema() -> Result<Value> {
    let mut keys = properties(&Settings::settings());
    let text = |about: &str| json!({ "type": "string", "description": about });
    keys.insert(
        "extends".to_owned(),
        text("A recipe, relative to this one, whose keys apply where this one has none"),
    );
    keys.insert("schema_version".to_owned(), json!({ "type": "integer" }));
    keys.insert("model".to_owned(), table(properties(&ModelSettings::settings())));
    let training = training();
    for usual in USUAL {
        keys.insert(usual.training.to_owned(), table(training.clone()));
        keys.insert(usual.defense.to_owned(), method(Some(usual.kind))?);
        keys.insert(usual.perturber.to_owned(), plugin::<dyn PerturberConfig>(|_| true, false)?);
    }
    keys.insert("stage".to_owned(), json!({ "type": "array", "items": stage(training)? }));
    let list = |item: Value| json!({ "type": "array", "items": item });
    keys.insert("metrics".to_owned(), list(plugin::<dyn MetricConfig>(|_| true, true)?));
    keys.insert("judges".to_owned(), list(plugin::<dyn JudgeConfig>(|_| true, true)?));
    keys.insert(WORLD.to_owned(), source(WORLD, false)?);
    keys.insert("data".to_owned(), data()?);
    keys.insert(
        "axes".to_owned(),
        json!({ "type": "object", "description": "Settings with several values: every combination is run" }),
    );
    let mut schema = table(keys);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("A recipe of vxf");
    Ok(schema)
}

/// A table with these keys and no others.
fn table(keys: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": keys, "additionalProperties": false })
}

fn properties(settings: &[Setting]) -> Map<String, Value> {
    settings.iter().map(|setting| (setting.name.to_owned(), property(setting))).collect()
}

/// A setting's type as far as its default shows it, its default and its meaning.
fn property(setting: &Setting) -> Value {
    let mut property = of_kind(&setting.default);
    if !setting.default.is_null() {
        property["default"] = setting.default.clone();
    }
    property["description"] = json!(setting.meaning);
    property
}

/// The type that a default shows. Lists, tables and settings without a default may be written in several
/// ways.
fn of_kind(default: &Value) -> Value {
    match default {
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(number) if number.is_f64() => json!({ "type": "number" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::String(_) => json!({ "type": "string" }),
        Value::Null | Value::Array(_) | Value::Object(_) => json!({}),
    }
}

fn training() -> Map<String, Value> {
    let mut keys = properties(&TrainingSettings::settings());
    let lora = vxf_core::config::json(&Lora::default());
    let lora = lora.as_object().into_iter().flatten();
    let mut adapter: Map<String, Value> = Map::new();
    adapter.insert("type".to_owned(), json!({ "enum": ["lora", "full"] }));
    for (name, default) in lora {
        let mut property = of_kind(default);
        property["default"] = default.clone();
        for (alias, _) in Lora::ALIASES.iter().filter(|(_, own)| own == name) {
            adapter.insert((*alias).to_owned(), property.clone());
        }
        adapter.insert(name.clone(), property);
    }
    if let Some(trainable) = keys.get_mut("trainable").and_then(Value::as_object_mut) {
        trainable.insert("anyOf".to_owned(), json!([{ "enum": ["lora", "full"] }, table(adapter)]));
    }
    keys
}

/// A name, or a table with a name and the settings of that plugin. Without `named`, a table without a name
/// has the settings of any of them.
fn plugin<C: Kind + ?Sized>(wanted: impl Fn(&Entry<C>) -> bool, named: bool) -> Result<Value> {
    let entries = registry::entries::<C>()?;
    let entries: Vec<_> = entries.into_iter().filter(|entry| wanted(entry)).collect();
    let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    let mut forms = vec![json!({ "enum": names })];
    for entry in entries {
        let mut keys = properties(&(entry.settings)());
        keys.insert("name".to_owned(), json!({ "const": entry.name }));
        let mut form = table(keys);
        form["description"] = json!(entry.summary);
        form["required"] = if named { json!(["name"]) } else { json!([]) };
        forms.push(form);
    }
    Ok(json!({ "anyOf": forms }))
}

/// A method of a stage, or of any: one plugin, a composition `a+b`, or a list.
fn method(stage: Option<Stage>) -> Result<Value> {
    let wanted =
        |entry: &Entry<dyn DefenseConfig>| stage.is_none_or(|stage| entry.stages.contains(&stage));
    let mut method = plugin::<dyn DefenseConfig>(wanted, false)?;
    let one = plugin::<dyn DefenseConfig>(wanted, true)?;
    let composed = json!({ "type": "string", "pattern": "\\+" });
    let table = json!({ "type": "object", "properties": { "name": composed }, "required": ["name"],
        "additionalProperties": false });
    if let Some(forms) = method["anyOf"].as_array_mut() {
        forms.extend([composed, table, json!({ "type": "array", "items": one })]);
    }
    Ok(method)
}

fn stage(training: Map<String, Value>) -> Result<Value> {
    let mut keys = training;
    let kinds = USUAL.map(|usual| usual.kind.to_string());
    keys.insert("kind".to_owned(), json!({ "enum": kinds }));
    keys.insert("set".to_owned(), json!({ "type": "string", "description": "The training set" }));
    keys.insert("defense".to_owned(), method(None)?);
    keys.insert("perturber".to_owned(), plugin::<dyn PerturberConfig>(|_| true, false)?);
    let mut stage = table(keys);
    stage["required"] = json!(["kind"]);
    Ok(stage)
}

/// The section `data`: of any source; without `source`, of `files`.
fn data() -> Result<Value> {
    let mut forms = Vec::new();
    for entry in registry::entries::<dyn DataConfig>()? {
        forms.push(source(entry.name, true)?);
    }
    Ok(json!({ "anyOf": forms }))
}

/// The settings of a data source.
fn source(name: &str, in_data: bool) -> Result<Value> {
    let entry = registry::find::<dyn DataConfig>(name)?;
    let settings = (entry.settings)();
    let mut keys = properties(&settings);
    let set = table(properties(&Source::settings()));
    // A setting without a default is a set of samples.
    for setting in settings.iter().filter(|setting| setting.default.is_null()) {
        let mut set = set.clone();
        set["description"] = json!(setting.meaning);
        keys.insert(setting.name.to_owned(), set);
    }
    if !in_data {
        return Ok(table(keys));
    }
    keys.insert("source".to_owned(), json!({ "const": name }));
    let mut form = table(keys);
    form["description"] = json!(entry.summary);
    form["required"] = if name == FILES { json!([]) } else { json!(["source"]) };
    Ok(form)
}
