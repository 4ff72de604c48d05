//! Settings of the defence `random` and the perturber `gaussian`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::{Gaussian, Random};

vxf_core::config! {
    /// The defence `random` has no settings.
    pub struct RandomConfig {}
}

#[typetag::serde(name = "random")]
impl DefenseConfig for RandomConfig {
    fn claims(&self) -> &'static [Claim] {
        &[Claim::DRIFT]
    }

    fn attacker(&self) -> Option<Value> {
        // It guards the loss on alignment data.
        Some(json!({ "name": "unalign" }))
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Random))
    }

    fn perturber(&self) -> &'static str {
        "gaussian"
    }
}

/// The meaning of `rho`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The L2 norm of the noise of the whole batch, comparable with Vaccine.
    NormMatched,
    /// The variance of each entry, as in the reference: the norm grows with batch, length and depth.
    Reference,
}

vxf_core::config! {
    /// Settings of the perturber `gaussian`.
    pub struct GaussianConfig {
        /// Strength of the noise, see `form`.
        pub rho: f64 = 2.0,
        /// norm_matched: rho is the L2 norm of the noise of the whole batch. reference: rho is the
        /// variance of each entry.
        pub form: Form = Form::NormMatched,
        /// Where hidden embeddings are perturbed; the published code uses attention_output.
        pub sites: SiteSelection = SiteSelection::default(),
    }
}

#[typetag::serde(name = "gaussian")]
impl PerturberConfig for GaussianConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.5..20:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Gaussian::new(self.clone())))
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // rho is a norm over the whole batch, so it depends on batch size, depth and length.
        Map::from_iter([("rho".to_owned(), 5.0.into())])
    }

    fn sites(&self) -> Option<&SiteSelection> {
        Some(&self.sites)
    }
}
