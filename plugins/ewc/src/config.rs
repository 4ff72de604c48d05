//! Settings of EWC.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vxf_core::prelude::*;

use crate::algorithm::Ewc;

/// How the Fisher information is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Without dropout.
    Corrected,
    /// As in the reference: with dropout, and the last Fisher gradient is added to the first step's.
    Reference,
}

vxf_core::config! {
    /// Settings of the defence `ewc`.
    pub struct EwcConfig {
        /// Weight lambda of the penalty `lambda * sum F (w - w_aligned)^2`.
        pub lambda: f64 = 1e9,
        /// Number of alignment batches for the Fisher information F; 0 uses one epoch.
        pub fisher_batches: usize = 0,
        /// corrected: F is computed without dropout. reference: as in the published code, F is computed
        /// with dropout, and its last gradient is added to the first step.
        pub form: Form = Form::Corrected,
    }
}

#[typetag::serde(name = "ewc")]
impl DefenseConfig for EwcConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment")
    }

    fn copies(&self) -> f64 {
        // The aligned weights and the Fisher information.
        2.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=1e6..1e12:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // After alignment the gradients are tiny, so F needs a large lambda.
        Map::from_iter([("lambda".to_owned(), 1e8.into())])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Ewc::new(self.clone())))
    }
}
