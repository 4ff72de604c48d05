//! Settings of Panacea.

use vxf_core::prelude::*;

use crate::algorithm::Panacea;

vxf_core::config! {
    /// Settings of the defence `panacea`.
    pub struct PanaceaConfig {
        /// Norm rho of the change that is added at the end, over all trained weights.
        pub rho: f64 = 1.0,
        /// Weight lambda of the harmful loss's rise.
        pub lambda: f64 = 1e-3,
        /// Harmful losses above this are clamped and have no gradient.
        pub limit: f64 = 5.0,
        /// Samples in a harmful batch.
        pub batch_size: usize = 10,
    }
}

#[typetag::serde(name = "panacea")]
impl DefenseConfig for PanaceaConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [("rho", self.rho), ("lambda", self.lambda), ("limit", self.limit)] {
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
        4.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.1..5:log", "lambda=1e-4..0.1:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Panacea::new(self.clone())))
    }
}
