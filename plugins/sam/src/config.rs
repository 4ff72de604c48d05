//! Settings of the defence and of its perturber.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::{Ascent, Sam};

vxf_core::config! {
    /// The defence `sam` has no settings; its radius is the perturber's.
    pub struct SamConfig {}
}

#[typetag::serde(name = "sam")]
impl DefenseConfig for SamConfig {
    fn perturber(&self) -> &'static str {
        "sam"
    }

    fn attacker(&self) -> Option<Value> {
        // It guards the loss on alignment data.
        Some(json!({ "name": "unalign" }))
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Sam))
    }
}

vxf_core::config! {
    /// Settings of the perturber `sam`.
    pub struct AscentConfig {
        /// Perturbation radius: the L2 norm of the change of all trained weights together.
        pub rho: f64 = 0.05,
    }
}

#[typetag::serde(name = "sam")]
impl PerturberConfig for AscentConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)
    }

    fn passes(&self) -> usize {
        1
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.01..2:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // The embedded model has few weights, each of them large.
        Map::from_iter([("rho".to_owned(), 0.5.into())])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Ascent::new(self.rho)))
    }
}
