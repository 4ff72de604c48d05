//! Settings of the filters.

use vxf_core::prelude::*;

use crate::direction::DirectionFilter;
use crate::gradient::GradientFilter;

fn share(share: f64) -> Result<(), ConfigError> {
    let range = (0.0..1.0).contains(&share);
    ConfigError::unless(range, "share", "must be at least 0 and below 1", share)
}

vxf_core::config! {
    /// Settings of the filter `gradient-filter`.
    pub struct GradientFilterConfig {
        /// Share of the user's samples that is left out: those with the lowest cosines between their
        /// gradient and the alignment gradient. 0 goes by `below`.
        pub share: f64 = 0.2,
        /// With a share of 0: leaves out samples whose cosine is below this.
        pub below: f64 = 0.0,
        /// Alignment samples that the alignment gradient is computed on, the first of the set.
        pub samples: usize = 64,
    }
}

#[typetag::serde(name = "gradient-filter")]
impl DefenseConfig for GradientFilterConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        share(self.share)?;
        let range = (-1.0..=1.0).contains(&self.below);
        ConfigError::unless(range, "below", "must lie between -1 and 1", self.below)?;
        let read = self.share == 0.0 || self.below == 0.0;
        ConfigError::unless(read, "below", "needs `share = 0`, which goes by it", self.below)?;
        ConfigError::positive("samples", self.samples)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment")
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["share=0.05..0.5"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(GradientFilter::new(self.clone())))
    }
}

vxf_core::config! {
    /// Settings of the filter `direction-filter`.
    pub struct DirectionFilterConfig {
        /// Share of the user's samples that is left out: those with the largest projections.
        pub share: f64 = 0.2,
        /// The layer whose output is read, as a share of the model's depth: 1 is the last layer.
        pub depth: f64 = 0.6,
        /// Harmful samples, and as many of alignment, whose mean difference is the direction; the first
        /// of each set.
        pub samples: usize = 64,
    }
}

#[typetag::serde(name = "direction-filter")]
impl DefenseConfig for DirectionFilterConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        share(self.share)?;
        let range = (0.0..=1.0).contains(&self.depth);
        ConfigError::unless(range, "depth", "must lie between 0 and 1", self.depth)?;
        ConfigError::positive("samples", self.samples)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment").stream("harmful")
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["share=0.05..0.5", "depth=0.3..1"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(DirectionFilter::new(self.clone())))
    }
}
