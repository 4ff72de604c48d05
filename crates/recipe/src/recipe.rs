//! A recipe with all defaults filled in.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use vxf_core::config::{JudgeConfig, MetricConfig};
use vxf_data::DataConfig;

use crate::resolve::sections::{USUAL, UsualStage};
use crate::settings::{FILES, ModelSettings, Settings, WORLD};
use crate::stage::StageRecipe;

/// Schema version of resolved recipes and records.
pub const SCHEMA_VERSION: u32 = 2;

/// A plugin with its settings.
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
    /// Name and all settings, as in a resolved recipe.
    pub fn value(&self) -> Value {
        let value = serde_json::to_value(&*self.config).ok().filter(Value::is_object);
        value.map_or_else(|| json!({ "name": self.name }), without_nulls)
    }
}

/// Removes null settings, which TOML does not have.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let given = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other => other,
    }
}

/// How a resolved recipe describes its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the usual sections if possible.
    Shortest,
    /// Always as a list.
    List,
}

/// One point of an experiment, with all defaults filled in.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The top-level settings.
    pub settings: Settings,
    /// The model.
    pub model: ModelSettings,
    /// The data source.
    pub data: Chosen<dyn DataConfig>,
    /// The stages of the pipeline, in order.
    pub pipeline: Vec<StageRecipe>,
    /// The metrics.
    pub metrics: Vec<Chosen<dyn MetricConfig>>,
    /// The judges; the first one gives figures without a suffix.
    pub judges: Vec<Chosen<dyn JudgeConfig>>,
}

impl Recipe {
    /// The stages to run.
    pub fn stages(&self) -> impl Iterator<Item = &StageRecipe> {
        self.pipeline.iter().filter(|stage| self.settings.stages.include(stage.kind))
    }

    /// The recipe as a tree, as in `config.resolved.toml`.
    pub fn value(&self) -> Map<String, Value> {
        self.value_as(Form::Shortest)
    }

    pub(crate) fn value_as(&self, form: Form) -> Map<String, Value> {
        let mut map = match serde_json::to_value(&self.settings) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        map.insert("schema_version".into(), SCHEMA_VERSION.into());
        let metrics: Vec<_> = self.metrics.iter().map(Chosen::value).collect();
        map.insert("metrics".into(), metrics.into());
        let judges: Vec<_> = self.judges.iter().map(Chosen::value).collect();
        map.insert("judges".into(), judges.into());
        map.insert("model".into(), json!(self.model));
        let (section, data) = self.data_section();
        map.insert(section.to_owned(), Value::Object(data));
        match form == Form::Shortest && self.is_usual() {
            true => {
                for (stage, names) in self.pipeline.iter().zip(USUAL) {
                    map.insert(names.defense.into(), stage.method_value());
                    map.insert(names.perturber.into(), stage.perturber.value());
                    map.insert(names.training.into(), json!(stage.training));
                }
            }
            false => {
                let stages = self.pipeline.iter().map(|stage| Value::Object(stage.value()));
                map.insert("stage".into(), stages.collect());
            }
        }
        map
    }

    /// Whether the usual sections can describe it: one stage of each kind, in order, on its default set.
    fn is_usual(&self) -> bool {
        let same = |(stage, usual): (&StageRecipe, UsualStage)| {
            stage.kind == usual.kind && stage.set == usual.set
        };
        (2..=USUAL.len()).contains(&self.pipeline.len())
            && self.pipeline.iter().zip(USUAL).all(same)
    }

    /// Name and content of the data source's section.
    fn data_section(&self) -> (&'static str, Map<String, Value>) {
        let mut map = match without_nulls(json!(&*self.data.config)) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        match self.data.name {
            WORLD => {
                map.shift_remove("source");
                (WORLD, map)
            }
            FILES => {
                map.shift_remove("source");
                ("data", map)
            }
            _ => ("data", map),
        }
    }

    /// The settings of the data source that decide the training samples; settings of measurements are
    /// left out.
    pub fn training_data(&self) -> Value {
        let (section, mut map) = self.data_section();
        for key in self.data.config.measuring() {
            map.shift_remove(*key);
        }
        json!({ section: map })
    }

    /// The settings that trained weights depend on, without measurements, threads, memory and output.
    pub fn essence(&self) -> Map<String, Value> {
        self.essence_as(Form::Shortest)
    }

    pub(crate) fn essence_as(&self, form: Form) -> Map<String, Value> {
        let mut map = self.value_as(form);
        for key in [
            "schema_version",
            "threads",
            "recompute",
            "detail",
            "keep",
            "metrics",
            "judges",
            WORLD,
            "data",
        ] {
            map.remove(key);
        }
        // Experiments from before it was there keep their digest.
        if self.settings.eval_prompts == 0 {
            map.remove("eval_prompts");
        }
        if let Value::Object(data) = self.training_data() {
            map.extend(data);
        }
        map
    }

    /// The name of the tested method in tables and paths.
    pub fn label(&self) -> String {
        let depth = self.stages().count().saturating_sub(1);
        label(&self.stages().collect::<Vec<_>>(), depth)
    }
}

/// The label of a run at `depth` of a pipeline: its methods in order. Plain fine-tuning as the second
/// stage is left out, because it is the usual case.
pub fn label(stages: &[&StageRecipe], depth: usize) -> String {
    let named = stages.iter().take(depth + 1).enumerate();
    let named = named.filter(|(index, stage)| *index != 1 || !stage.is_plain());
    named.map(|(_, stage)| stage.label()).collect::<Vec<_>>().join("+")
}

/// SHA-256 of a value's JSON with sorted keys, in hexadecimal.
pub fn digest(value: &Value) -> String {
    // TOML puts tables after simple values, so the order of keys may change.
    let mut value = value.clone();
    value.sort_all_objects();
    hex::encode(Sha256::digest(value.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::digest;

    /// A recipe that was written and read again has tables after simple values.
    #[test]
    fn a_digest_does_not_depend_on_the_order_of_keys() {
        let one = json!({ "a": { "z": 1, "b": { "c": 1 } }, "d": [{ "y": 1, "x": 2 }] });
        let other = json!({ "d": [{ "x": 2, "y": 1 }], "a": { "b": { "c": 1 }, "z": 1 } });
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&one), digest(&json!({ "a": 1 })));
    }
}
