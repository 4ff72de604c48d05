//! Settings of one-shot repair.

use vxf_core::prelude::*;

use crate::repair::{OneShot, REPAIR};

vxf_core::config! {
    /// Settings of the post-tuning method `one-shot-repair`.
    pub struct OneShotConfig {
        /// Safe samples to train on, the first of the alignment set.
        pub samples: usize = 1,
        /// Optimiser steps, with a constant rate.
        pub steps: usize = 10,
        /// Their learning rate.
        pub rate: f64 = 1e-4,
    }
}

#[typetag::serde(name = "one-shot-repair")]
impl DefenseConfig for OneShotConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::positive("samples", self.samples)?;
        ConfigError::positive("steps", self.steps)?;
        let rule = "must be a number above 0";
        ConfigError::unless(self.rate > 0.0 && self.rate.is_finite(), "rate", rule, self.rate)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream(REPAIR).first_of("alignment", self.samples).batches_of(self.samples)
    }

    fn trains(&self) -> bool {
        // Its few steps are its own: those of the stage count epochs of a whole set.
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["steps=3,10,30,100", "rate=1e-5..1e-2:log"]
    }

    fn world_defaults(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::from_iter([("rate".to_owned(), serde_json::json!(1e-3))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(OneShot::new(self.clone())))
    }
}
