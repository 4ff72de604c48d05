//! Settings of the control and of its noise.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vxf_core::prelude::*;

use crate::algorithm::{Gaussian, Random};

vxf_core::config! {
    /// Settings of the defence `random`.
    pub struct RandomConfig {}
}

#[typetag::serde(name = "random")]
impl DefenseConfig for RandomConfig {
    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Random))
    }

    fn perturber(&self) -> &'static str {
        "gaussian"
    }
}

/// What `rho` means for noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The L2 norm of all noise of the batch together, comparable with Vaccine's.
    NormMatched,
    /// The variance of each entry, as the reference: its norm grows with batch, length and depth.
    Reference,
}

vxf_core::config! {
    /// Settings of the perturber `gaussian`.
    pub struct GaussianConfig {
        /// Strength rho: the global L2 norm (norm_matched) or the variance (reference).
        pub rho: f64 = 2.0,
        /// What rho means: norm_matched or reference.
        pub form: Form = Form::NormMatched,
        /// Sites to perturb; attention_output is the reference's.
        pub sites: SiteSelection = SiteSelection::default(),
    }
}

#[typetag::serde(name = "gaussian")]
impl PerturberConfig for GaussianConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = self.rho.is_finite() && self.rho >= 0.0;
        ConfigError::unless(holds, "rho", "must be finite and at least 0", self.rho)
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Gaussian::new(self.clone())))
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // rho is a norm over a whole batch: it depends on batch size, depth and length.
        Map::from_iter([("rho".to_owned(), 5.0.into())])
    }

    fn sites(&self) -> Option<&SiteSelection> {
        Some(&self.sites)
    }
}
