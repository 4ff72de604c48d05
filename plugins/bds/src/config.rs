//! Settings of BDS.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Bds;

vxf_core::config! {
    /// Settings of the defence `bds`.
    pub struct BdsConfig {
        /// Learning rate of the samples' scores.
        pub score_rate: f64 = 5e-3,
        /// Weight of the loss on safe data.
        pub safe: f64 = 1.0,
    }
}

#[typetag::serde(name = "bds")]
impl DefenseConfig for BdsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("score_rate", self.score_rate)?;
        ConfigError::not_negative("safe", self.safe)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment")
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["score_rate=1e-3..0.5:log", "safe=0.1..3:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // A few hundred steps are few for a rate of 5e-3.
        Map::from_iter([("score_rate".to_owned(), json!(0.1))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Bds::new(self.clone())))
    }
}
