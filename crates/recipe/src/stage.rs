//! One stage of a recipe's pipeline.

use serde_json::{Map, Value, json};
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::{Needs, Stage};

use crate::recipe::Chosen;
use crate::settings::TrainingSettings;

/// One stage of a model's life: its method, its inner player, its data and how it is trained.
#[derive(Clone, Debug)]
pub struct StageRecipe {
    /// Which stage it is.
    pub kind: Stage,
    /// The set that it trains on.
    pub set: String,
    /// The method: one defence, or a composition of several.
    pub methods: Vec<Chosen<dyn DefenseConfig>>,
    /// The inner player.
    pub perturber: Chosen<dyn PerturberConfig>,
    /// How it is trained.
    pub training: TrainingSettings,
}

impl StageRecipe {
    /// The set that a stage of this kind trains on unless told otherwise.
    pub fn default_set(kind: Stage) -> &'static str {
        match kind {
            Stage::FineTuning => "user",
            Stage::Alignment | Stage::PostTuning => "alignment",
        }
    }

    /// Whether it takes optimiser steps.
    pub fn trains(&self) -> bool {
        self.methods.iter().any(|method| method.config.trains())
    }

    /// The member that makes the gradient, if any does; plain training otherwise.
    pub fn maker(&self) -> Option<&Chosen<dyn DefenseConfig>> {
        self.methods.iter().find(|method| method.config.makes_gradient())
    }

    /// The registered name of the inner player that its method uses by itself.
    pub fn own_perturber(methods: &[Chosen<dyn DefenseConfig>]) -> &'static str {
        let maker = methods.iter().find(|method| method.config.makes_gradient());
        maker.map_or("none", |method| method.config.perturber())
    }

    /// Everything that it reads beyond its own set and the model.
    pub fn needs(&self) -> Needs {
        let methods = self.methods.iter().map(|method| method.config.needs());
        methods.fold(self.perturber.config.needs(), Needs::and)
    }

    /// What it is called in tables and directories: its methods, and the inner player where it is
    /// not the method's own.
    pub fn label(&self) -> String {
        let names: Vec<_> = self.methods.iter().map(|method| method.name).collect();
        let name = names.join("_");
        match self.perturber.name == Self::own_perturber(&self.methods) {
            true => name,
            false => format!("{name}~{}", self.perturber.name),
        }
    }

    /// Whether it is what a user does whom nothing defends.
    pub fn is_plain(&self) -> bool {
        self.kind == Stage::FineTuning && self.label() == "sft"
    }

    /// The methods as a resolved recipe holds them: one table, or a list of them.
    pub fn method_value(&self) -> Value {
        match self.methods.as_slice() {
            [method] => method.value(),
            several => several.iter().map(Chosen::value).collect(),
        }
    }

    /// All that decides what the stage does to a model, apart from its data.
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
