//! Settings of KL.

use serde::{Deserialize, Serialize};
use vxf_core::prelude::*;

use crate::algorithm::Kl;

/// How the divergence is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Softmax over the vocabulary, real positions only, teacher without dropout.
    Corrected,
    /// As `Reference`, but softmax over the vocabulary.
    AxisCorrected,
    /// As in the reference: softmax over the time axis, padding included, teacher with dropout.
    Reference,
}

vxf_core::config! {
    /// Settings of the defence `kl`.
    pub struct KlConfig {
        /// Weight lambda of the divergence (sum over positions, mean over samples).
        pub lambda: f64 = 0.1,
        /// corrected: softmax over the vocabulary, no padding, teacher without dropout. reference: as in
        /// the published code, softmax over time, padding included, teacher with dropout.
        /// axis_corrected: as reference, but softmax over the vocabulary.
        pub form: Form = Form::Corrected,
    }
}

#[typetag::serde(name = "kl")]
impl DefenseConfig for KlConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)
    }

    fn passes(&self) -> f64 {
        // The teacher needs a forward pass only: a third of a pass.
        4.0 / 3.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.01..10:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Kl::new(self.clone())))
    }
}
