//! One stage of a recipe's pipeline.

use serde_json::{Map, Value, json};
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::{Needs, Stage};

use crate::recipe::Chosen;
use crate::settings::TrainingSettings;

/// One stage: its method, perturber, data and training settings.
#[derive(Clone, Debug)]
pub struct StageRecipe {
    /// The kind of stage.
    pub kind: Stage,
    /// The training set.
    pub set: String,
    /// The method: one defence, or a composition of several.
    pub methods: Vec<Chosen<dyn DefenseConfig>>,
    /// The perturber.
    pub perturber: Chosen<dyn PerturberConfig>,
    /// The training settings.
    pub training: TrainingSettings,
}

impl StageRecipe {
    /// Whether it is a user's fine-tuning, which is also the attack.
    pub fn is_user(&self) -> bool {
        self.kind == Stage::FineTuning
    }

    /// Its method in a baseline that aligns by `alignment`; a baseline has no post-tuning.
    pub(crate) fn baseline_method<'a>(&self, alignment: &'a str) -> Option<&'a str> {
        match self.kind {
            Stage::Alignment => Some(alignment),
            Stage::FineTuning => Some("sft"),
            Stage::PostTuning => None,
        }
    }

    /// Whether it is the provider's, before any user.
    pub fn is_alignment(&self) -> bool {
        self.kind == Stage::Alignment
    }

    /// Whether it edits or repairs the model after a user.
    pub fn is_repair(&self) -> bool {
        self.kind == Stage::PostTuning
    }

    /// Whether it takes optimiser steps.
    pub fn trains(&self) -> bool {
        self.methods.iter().any(|method| method.config.trains())
    }

    /// The member that computes the gradient; `None` means plain training.
    pub fn maker(&self) -> Option<&Chosen<dyn DefenseConfig>> {
        self.methods.iter().find(|method| method.config.makes_gradient())
    }

    /// The perturber that the method uses by default.
    pub fn own_perturber(methods: &[Chosen<dyn DefenseConfig>]) -> &'static str {
        let maker = methods.iter().find(|method| method.config.makes_gradient());
        maker.map_or("none", |method| method.config.perturber())
    }

    /// Everything it reads besides its own set and the model.
    pub fn needs(&self) -> Needs {
        let methods = self.methods.iter().map(|method| method.config.needs());
        methods.fold(self.perturber.config.needs(), Needs::and)
    }

    /// Its label in tables and paths: its methods, and the perturber if it is not the method's own.
    pub fn label(&self) -> String {
        let names: Vec<_> = self.methods.iter().map(|method| method.name).collect();
        let name = names.join("_");
        match self.perturber.name == Self::own_perturber(&self.methods) {
            true => name,
            false => format!("{name}~{}", self.perturber.name),
        }
    }

    /// Whether its method is an attack and no defence.
    pub fn is_attack(&self) -> bool {
        self.methods.iter().all(|method| method.config.attacks())
    }

    /// Whether it is a user's stage without a defence: plain training, or an attack.
    pub fn is_plain(&self) -> bool {
        self.is_user() && (self.label() == "sft" || self.is_attack())
    }

    /// The methods as in a resolved recipe: one table, or a list of tables.
    pub fn method_value(&self) -> Value {
        match self.methods.as_slice() {
            [method] => method.value(),
            several => several.iter().map(Chosen::value).collect(),
        }
    }

    /// Everything that decides what the stage does to a model, except the data.
    pub fn value(&self) -> Map<String, Value> {
        let mut map = match serde_json::to_value(&self.training) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        map.insert("kind".into(), json!(self.kind));
        map.insert("set".into(), json!(self.set));
        map.insert("defense".into(), self.method_value());
        map.insert("perturber".into(), self.perturber.value());
        map
    }
}
