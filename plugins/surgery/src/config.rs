//! Settings of Surgery.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Surgery;

vxf_core::config! {
    /// Settings of the defence `surgery`.
    pub struct SurgeryConfig {
        /// Weight alpha of the penalty.
        pub alpha: f64 = 300.0,
        /// Harmful samples, and as many safe ones, in each step.
        pub samples: usize = 1,
    }
}

#[typetag::serde(name = "surgery")]
impl DefenseConfig for SurgeryConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("alpha", self.alpha)?;
        ConfigError::positive("samples", self.samples)
    }

    fn needs(&self) -> Needs {
        let harmful = Needs::none().stream("harmful").batches_of(self.samples);
        harmful.stream("alignment").batches_of(self.samples)
    }

    fn passes(&self) -> f64 {
        // One of the user's batch; those of single samples cost little beside it.
        1.5
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["alpha=10..10000:log", "samples=1,4,8"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([("samples".to_owned(), json!(8))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Surgery::new(self.clone())))
    }
}
