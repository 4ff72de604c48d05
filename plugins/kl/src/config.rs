//! Settings of KL.

use serde::{Deserialize, Serialize};
use vxf_core::prelude::*;

use crate::algorithm::Kl;

/// Which divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Over the vocabulary, on real positions, the teacher without dropout.
    Corrected,
    /// The reference with one defect mended: over the vocabulary, padding still included.
    AxisCorrected,
    /// As the reference: softmax over the time axis, padding included, the teacher with dropout.
    Reference,
}

vxf_core::config! {
    /// Settings of the defence `kl`.
    pub struct KlConfig {
        /// Weight lambda of the divergence, which is summed over positions and averaged over samples.
        pub lambda: f64 = 0.1,
        /// corrected; reference with its defects; axis_corrected with the softmax's axis mended alone.
        pub form: Form = Form::Corrected,
    }
}

#[typetag::serde(name = "kl")]
impl DefenseConfig for KlConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = self.lambda.is_finite() && self.lambda >= 0.0;
        ConfigError::unless(holds, "lambda", "must be finite and at least 0", self.lambda)
    }

    fn passes(&self) -> f64 {
        // The teacher goes forward alone, a third of a pass.
        4.0 / 3.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Kl::new(self.clone())))
    }
}
