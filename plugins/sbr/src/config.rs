//! Settings of SBR.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::{ANCHORS, Sbr};

vxf_core::config! {
    /// Settings of the defence `sbr`.
    pub struct SbrConfig {
        /// Weight alpha of the mean squared distance of the anchors' hidden states.
        pub alpha: f64 = 50.0,
        /// The number of harmful prompts that are anchors, the first of the harmful set.
        pub anchors: usize = 8,
    }
}

#[typetag::serde(name = "sbr")]
impl DefenseConfig for SbrConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("alpha", self.alpha)?;
        ConfigError::positive("anchors", self.anchors)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream(ANCHORS).first_of("harmful", self.anchors).batches_of(self.anchors)
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["alpha=0.5..500:log", "anchors=4,8,16,32"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([("alpha".to_owned(), json!(5.0))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Sbr::new(self.clone())))
    }
}
