//! A whole experiment, every choice made: the resolved recipe.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use vxf_core::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig};

use crate::data_settings::DataSettings;
use crate::settings::{ModelSettings, Settings, TrainingSettings, World};

/// A plugin by name, with its settings.
pub struct Chosen<C: ?Sized> {
    /// Its registered name.
    pub name: &'static str,
    /// Its settings.
    pub config: Arc<C>,
}

impl<C: ?Sized> Clone for Chosen<C> {
    fn clone(&self) -> Self {
        Self { name: self.name, config: self.config.clone() }
    }
}

impl<C: ?Sized> fmt::Debug for Chosen<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<C: ?Sized + serde::Serialize> Chosen<C> {
    /// Name and all settings, as a resolved recipe holds them.
    pub fn value(&self) -> Value {
        let value = serde_json::to_value(&*self.config).ok().filter(Value::is_object);
        value.map_or_else(|| json!({ "name": self.name }), without_nulls)
    }
}

/// TOML has no null: a setting that is not given is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let given = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other => other,
    }
}

/// Settings of the world that say what is measured and how.
const MEASURING_IN_THE_WORLD: [&str; 5] =
    ["harmful_test", "task_test", "benign_test", "alignment_probe", "max_new_tokens"];

/// Settings of files that say what is measured and how.
const MEASURING_ON_FILES: [&str; 10] = [
    "alignment_probe",
    "max_new_tokens",
    "task_new_tokens",
    "eval_batch_size",
    "sampling",
    "task",
    "harmful_test",
    "task_test",
    "benign_test",
    "fluency",
];

/// What is done to a model before its user comes: a defence with its inner player.
#[derive(Clone, Debug)]
pub struct Method {
    /// The outer player.
    pub defense: Chosen<dyn DefenseConfig>,
    /// The inner player.
    pub perturber: Chosen<dyn PerturberConfig>,
}

impl Method {
    /// Whether both are set alike.
    pub fn same_as(&self, other: &Self) -> bool {
        self.defense.value() == other.defense.value()
            && self.perturber.value() == other.perturber.value()
    }
}

/// Where the samples come from.
#[derive(Clone, Debug)]
pub enum Data {
    /// The embedded world.
    World(World),
    /// The user's own files.
    Files(Box<DataSettings>),
}

/// The file that fixes a whole experiment, every default filled in.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Seeds, ratios, and what is done.
    pub settings: Settings,
    /// The model.
    pub model: ModelSettings,
    /// The data.
    pub data: Data,
    /// The alignment method under test.
    pub alignment_method: Method,
    /// The method in the user's stage.
    pub fine_tuning_method: Method,
    /// How the alignment stage is trained.
    pub alignment: TrainingSettings,
    /// How the user's stage is trained.
    pub fine_tuning: TrainingSettings,
    /// What is measured.
    pub metrics: Vec<Chosen<dyn MetricConfig>>,
    /// Who decides what is harmful, the one whose figures carry the plain names first.
    pub judges: Vec<Chosen<dyn JudgeConfig>>,
}

impl Recipe {
    /// The recipe as a tree, as it is written to `config.resolved.toml`.
    pub fn value(&self) -> Map<String, Value> {
        let mut map = match serde_json::to_value(&self.settings) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let metrics: Vec<_> = self.metrics.iter().map(Chosen::value).collect();
        map.insert("metrics".into(), metrics.into());
        let judges: Vec<_> = self.judges.iter().map(Chosen::value).collect();
        map.insert("judges".into(), judges.into());
        map.insert("model".into(), json!(self.model));
        match &self.data {
            Data::World(world) => map.insert("world".into(), json!(world)),
            Data::Files(files) => map.insert("data".into(), without_nulls(json!(files))),
        };
        map.insert("defense".into(), self.alignment_method.defense.value());
        map.insert("perturber".into(), self.alignment_method.perturber.value());
        map.insert("fine_tune_defense".into(), self.fine_tuning_method.defense.value());
        map.insert("alignment".into(), json!(self.alignment));
        map.insert("fine_tuning".into(), json!(self.fine_tuning));
        map
    }

    /// What the trained weights depend on: the recipe without threads, memory, presentation and
    /// measuring, and without paths. What lies at the paths is part of an experiment's identity by
    /// its content: see [`crate::manifest::Manifest`].
    pub fn essence(&self) -> Map<String, Value> {
        let mut map = self.value();
        for key in ["threads", "recompute", "detail", "metrics", "judges", "from"] {
            map.remove(key);
        }
        for (section, keys) in [
            ("model", &["path", "adapters"][..]),
            ("world", &MEASURING_IN_THE_WORLD),
            ("data", &MEASURING_ON_FILES),
        ] {
            if let Some(Value::Object(section)) = map.get_mut(section) {
                keys.iter().for_each(|key| drop(section.remove(*key)));
            }
        }
        if let Some(Value::Object(data)) = map.get_mut("data") {
            for (_, source) in data.iter_mut() {
                if let Value::Object(source) = source {
                    source.remove("path");
                    source.remove("revision");
                }
            }
        }
        map
    }

    /// The recipe as TOML.
    pub fn toml(&self) -> String {
        // Every value came from serde structs without nulls, so TOML can hold it.
        toml::to_string(&self.value()).unwrap_or_default()
    }

    /// SHA-256 of the essence, in hexadecimal.
    pub fn digest(&self) -> String {
        digest(&Value::Object(self.essence()))
    }

    /// What the method under test is called in tables and directories.
    pub fn label(&self) -> String {
        let Method { defense, perturber } = &self.alignment_method;
        let mut label = defense.name.to_owned();
        if perturber.name != defense.config.perturber() {
            label = format!("{label}~{}", perturber.name);
        }
        match self.fine_tuning_method.defense.name {
            "sft" => label,
            other => format!("{label}+{other}"),
        }
    }
}

/// SHA-256 of a value's JSON, its keys in the order of the alphabet, in hexadecimal.
pub(crate) fn digest(value: &Value) -> String {
    // TOML writes tables after plain values, whatever the order was.
    let mut value = value.clone();
    value.sort_all_objects();
    hex(&Sha256::digest(value.to_string()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::digest;

    /// A recipe that was written and read again has its tables behind its plain values.
    #[test]
    fn a_digest_knows_no_order_of_keys() {
        let one = json!({ "a": { "z": 1, "b": { "c": 1 } }, "d": [{ "y": 1, "x": 2 }] });
        let other = json!({ "d": [{ "x": 2, "y": 1 }], "a": { "b": { "c": 1 }, "z": 1 } });
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&one), digest(&json!({ "a": 1 })));
    }
}
