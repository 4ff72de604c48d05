//! Settings of the defences and of their perturbers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::{Oasis, Targeted, Where};

/// Which weights train in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// All of them.
    All,
    /// Those of the chosen layers.
    Layers,
    /// Those of the chosen layers, and all that do not belong to attention.
    Attention,
}

vxf_core::config! {
    /// Settings of the defence `t-vaccine`.
    pub struct TVaccineConfig {
        /// What trains in a step. attention: attention weights of the drawn layers, and everything
        /// outside attention, as in the authors' code. layers: the drawn layers alone, as in the paper. all:
        /// everything.
        pub trained: Trained = Trained::Attention,
    }
}

#[typetag::serde(name = "t-vaccine")]
impl DefenseConfig for TVaccineConfig {
    fn perturber(&self) -> &'static str {
        "t-vaccine"
    }

    fn claims(&self) -> &'static [Claim] {
        &[Claim::DRIFT]
    }

    fn attacker(&self) -> Option<Value> {
        // It guards the loss on alignment data.
        Some(json!({ "name": "unalign" }))
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Where::new(self.trained)))
    }
}

vxf_core::config! {
    /// Settings of the perturber `t-vaccine`.
    pub struct TVaccinePerturberConfig {
        /// Perturbation radius: the L2 norm over all drawn layers.
        pub rho: f64 = 3.0,
        /// Layers drawn at a time; all of them if the model has fewer.
        pub layers: usize = 8,
        /// Steps between draws.
        pub resample: u64 = 20,
        /// Steps between measurements of the harmful gradient.
        pub rescore: u64 = 200,
        /// Harmful samples in a measurement.
        pub batch_size: usize = 1,
    }
}

#[typetag::serde(name = "t-vaccine")]
impl PerturberConfig for TVaccinePerturberConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)?;
        ConfigError::positive("layers", self.layers)?;
        ConfigError::positive("resample", self.resample)?;
        ConfigError::positive("rescore", self.rescore)?;
        ConfigError::positive("batch_size", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    fn passes(&self) -> usize {
        1
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.5..20:log", "layers=1,2,3,8", "resample=5,10,20,40"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // The embedded model has four layers and 160 steps of alignment.
        let own = [
            ("rho", json!(5.0)),
            ("layers", json!(2)),
            ("resample", json!(5)),
            ("rescore", json!(20)),
        ];
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Targeted::new(self.clone())))
    }
}

vxf_core::config! {
    /// Settings of the defence `oasis`.
    pub struct OasisConfig {
        /// What trains in a step: layers (the chosen ones, as in the authors' code), attention or all.
        pub trained: Trained = Trained::Layers,
    }
}

#[typetag::serde(name = "oasis")]
impl DefenseConfig for OasisConfig {
    fn perturber(&self) -> &'static str {
        "oasis"
    }

    fn claims(&self) -> &'static [Claim] {
        &[Claim::DRIFT]
    }

    fn attacker(&self) -> Option<Value> {
        // It guards the loss on alignment data.
        Some(json!({ "name": "unalign" }))
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Where::new(self.trained)))
    }
}

vxf_core::config! {
    /// Settings of the perturber `oasis`.
    pub struct OasisPerturberConfig {
        /// Perturbation radius, before the harmful component is removed.
        pub rho: f64 = 3.0,
        /// Layers perturbed; all of them if the model has fewer.
        pub layers: usize = 20,
        /// Steps between choices of the layers and their directions.
        pub refresh: u64 = 100,
        /// Harmful samples in a measurement.
        pub batch_size: usize = 1,
    }
}

#[typetag::serde(name = "oasis")]
impl PerturberConfig for OasisPerturberConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)?;
        ConfigError::positive("layers", self.layers)?;
        ConfigError::positive("refresh", self.refresh)?;
        ConfigError::positive("batch_size", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    fn passes(&self) -> usize {
        1
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.5..20:log", "layers=1,2,3,20", "refresh=10,20,40,100"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        let own = [("rho", json!(5.0)), ("layers", json!(3)), ("refresh", json!(20))];
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Oasis::new(self.clone())))
    }
}
