//! A whole experiment, every choice made: the resolved recipe.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use vxf_core::config::{DefenseConfig, MetricConfig, PerturberConfig};

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
        // TOML has no null: a setting that is not given is left out.
        match serde_json::to_value(&*self.config) {
            Ok(Value::Object(map)) => {
                Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect())
            }
            _ => json!({ "name": self.name }),
        }
    }
}

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

/// The file that fixes a whole experiment, every default filled in.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Seeds, ratios, and what is done.
    pub settings: Settings,
    /// The model.
    pub model: ModelSettings,
    /// The data.
    pub world: World,
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
        map.insert("model".into(), json!(self.model));
        map.insert("world".into(), json!(self.world));
        map.insert("defense".into(), self.alignment_method.defense.value());
        map.insert("perturber".into(), self.alignment_method.perturber.value());
        map.insert("fine_tune_defense".into(), self.fine_tuning_method.defense.value());
        map.insert("alignment".into(), json!(self.alignment));
        map.insert("fine_tuning".into(), json!(self.fine_tuning));
        map
    }

    /// What the results depend on: the recipe without threads and presentation.
    pub fn essence(&self) -> Map<String, Value> {
        let mut map = self.value();
        map.remove("threads");
        map.remove("detail");
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

/// SHA-256 of a value's JSON, in hexadecimal.
pub(crate) fn digest(value: &Value) -> String {
    hex(&Sha256::digest(value.to_string()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
