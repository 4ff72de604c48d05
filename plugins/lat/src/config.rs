//! Settings of the defence and of its perturber.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;
use vxf_core::site::SiteKind;

use crate::algorithm::{Lat, Projected};

vxf_core::config! {
    /// The defence `lat` has no settings; see its perturber.
    pub struct LatConfig {}
}

#[typetag::serde(name = "lat")]
impl DefenseConfig for LatConfig {
    fn perturber(&self) -> &'static str {
        "lat"
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Lat))
    }
}

vxf_core::config! {
    /// Settings of the perturber `lat`.
    pub struct ProjectedConfig {
        /// Perturbation radius: the L2 norm over the whole batch and all sites.
        pub rho: f64 = 2.0,
        /// Gradient steps.
        pub steps: usize = 4,
        /// Length of each step, as a share of rho.
        pub step_size: f64 = 0.5,
        /// Where hidden embeddings are perturbed.
        pub sites: SiteSelection = SiteSelection::all(SiteKind::BlockOutput),
    }
}

#[typetag::serde(name = "lat")]
impl PerturberConfig for ProjectedConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = |value: f64| value.is_finite() && value >= 0.0;
        ConfigError::unless(range(self.rho), "rho", "must be finite and at least 0", self.rho)?;
        ConfigError::unless(self.steps > 0, "steps", "must be at least 1", self.steps)?;
        let size = range(self.step_size) && self.step_size > 0.0;
        ConfigError::unless(size, "step_size", "must be finite and above 0", self.step_size)
    }

    fn passes(&self) -> usize {
        self.steps
    }

    fn sites(&self) -> Option<&SiteSelection> {
        Some(&self.sites)
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([("rho".to_owned(), json!(5.0))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Projected::new(self.clone())))
    }
}
