//! Settings of adaptive KL.

use vxf_core::prelude::*;

use crate::algorithm::AdaptiveKl;

vxf_core::config! {
    /// Settings of the defence `adaptive-kl`.
    pub struct AdaptiveKlConfig {
        /// The least weight of the divergence and of the loss, and 1 minus the largest one.
        pub least: f64 = 0.1,
        /// Harmful prompts, and as many harmless ones, that the probe learns from; the first of each set.
        pub samples: usize = 128,
    }
}

#[typetag::serde(name = "adaptive-kl")]
impl DefenseConfig for AdaptiveKlConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..=0.5).contains(&self.least);
        ConfigError::unless(range, "least", "must lie between 0 and 0.5", self.least)?;
        ConfigError::positive("samples", self.samples)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").stream("benign")
    }

    fn passes(&self) -> f64 {
        // A further forward.
        4.0 / 3.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["least=0.01..0.5:log", "samples=32,64,128"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(AdaptiveKl::new(self.clone())))
    }
}
