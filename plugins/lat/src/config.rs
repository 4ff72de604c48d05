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

    fn attacker(&self) -> Option<Value> {
        // It guards the loss on alignment data.
        Some(json!({ "name": "unalign" }))
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
        ConfigError::not_negative("rho", self.rho)?;
        ConfigError::positive("steps", self.steps)?;
        let size = self.step_size.is_finite() && self.step_size > 0.0;
        ConfigError::unless(size, "step_size", "must be finite and above 0", self.step_size)
    }

    fn passes(&self) -> usize {
        self.steps
    }

    fn sites(&self) -> Option<&SiteSelection> {
        Some(&self.sites)
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.5..20:log", "steps=2,4,8", "step_size=0.1..1"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([("rho".to_owned(), json!(5.0))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Projected::new(self.clone())))
    }
}
