//! Settings of SafeGrad.

use vxf_core::prelude::*;

use crate::algorithm::SafeGrad;

vxf_core::config! {
    /// Settings of the defence `safegrad`.
    pub struct SafeGradConfig {
        /// Weight rho of the alignment gradient that is added; 0 projects only.
        pub rho: f64 = 1.0,
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
        2.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.1..5:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(SafeGrad::new(self.clone())))
    }
}
