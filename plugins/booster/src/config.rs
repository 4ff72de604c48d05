//! Settings of Booster.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Booster;

vxf_core::config! {
    /// Settings of the defence `booster`.
    pub struct BoosterConfig {
        /// Weight lambda of the fall of the harmful loss.
        pub lambda: f64 = 5.0,
        /// Length alpha of the simulated harmful step, in the space of the trained weights.
        pub alpha: f64 = 0.1,
        /// Samples in a harmful batch.
        pub batch_size: usize = 10,
    }
}

#[typetag::serde(name = "booster")]
impl DefenseConfig for BoosterConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)?;
        ConfigError::not_negative("alpha", self.alpha)?;
        ConfigError::positive("batch_size", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    fn passes(&self) -> f64 {
        3.0
    }

    fn copies(&self) -> f64 {
        // Two gradients and the moved weights.
        3.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.1..20:log", "alpha=0.005..0.2:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // With the paper's values the model is harmful before any attack.
        Map::from_iter([("lambda".to_owned(), json!(1.0)), ("alpha".to_owned(), json!(0.02))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Booster::new(self.clone())))
    }
}
