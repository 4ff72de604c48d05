//! Settings of CTRAP.

use vxf_core::prelude::*;

use crate::algorithm::Ctrap;

/// The length of the simulated harmful step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// `alpha` times the harmful gradient, as in the paper's formula.
    Gradient,
    /// `alpha`: the harmful gradient divided by its norm over all trained weights, as in the authors' code.
    Unit,
}

vxf_core::config! {
    /// Settings of the defence `ctrap`.
    pub struct CtrapConfig {
        /// Weight lambda of the collapse.
        pub lambda: f64 = 0.1,
        /// Size alpha of the simulated harmful step.
        pub alpha: f64 = 0.1,
        /// What alpha scales: gradient (the harmful gradient, as in the paper) or unit (its direction, as
        /// in the authors' code).
        pub length: Length = Length::Gradient,
        /// The token that a collapsed model repeats, by its number.
        pub token: u32 = 0,
        /// Samples in a harmful batch.
        pub batch_size: usize = 8,
    }
}

#[typetag::serde(name = "ctrap")]
impl DefenseConfig for CtrapConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [("lambda", self.lambda), ("alpha", self.alpha)] {
            ConfigError::not_negative(key, value)?;
        }
        ConfigError::positive("batch_size", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    fn passes(&self) -> f64 {
        3.0
    }

    fn copies(&self) -> f64 {
        2.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.01..3:log", "alpha=0.01..0.3:log", "length=gradient,unit"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Ctrap::new(self.clone())))
    }
}
