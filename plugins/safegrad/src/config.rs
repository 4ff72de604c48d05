//! Settings of SafeGrad.

use vxf_core::prelude::*;

use crate::algorithm::SafeGrad;

/// What the alignment gradient is the gradient of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The cross-entropy on alignment data.
    CrossEntropy,
    /// The divergence from the model before the stage, on the answers of alignment data.
    Kl,
}

vxf_core::config! {
    /// Settings of the defence `safegrad`.
    pub struct SafeGradConfig {
        /// Weight rho of the alignment gradient that is added; 0 projects only.
        pub rho: f64 = 1.0,
        /// The alignment loss: cross_entropy, or kl (the divergence from the aligned model, as in the
        /// paper).
        pub loss: Loss = Loss::CrossEntropy,
        /// Alignment samples in each step; 0 takes the stage's batch size.
        pub batch_size: usize = 0,
    }
}

#[typetag::serde(name = "safegrad")]
impl DefenseConfig for SafeGradConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)
    }

    fn needs(&self) -> Needs {
        let needs = Needs::none().stream("alignment");
        if self.batch_size > 0 { needs.batches_of(self.batch_size) } else { needs }
    }

    fn passes(&self) -> f64 {
        match self.loss {
            Loss::CrossEntropy => 2.0,
            // The aligned model's pass has no backward.
            Loss::Kl => 2.4,
        }
    }

    fn copies(&self) -> f64 {
        match self.loss {
            Loss::CrossEntropy => 1.0,
            Loss::Kl => 2.0,
        }
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.1..5:log", "loss=cross_entropy,kl"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(SafeGrad::new(self.clone())))
    }
}
