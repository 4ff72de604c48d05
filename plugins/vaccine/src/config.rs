//! Settings of the defence and of its perturber.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::{GradientPerturber, Vaccine};

/// The perturbation in the steps between new perturbations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// None, as in the paper's accelerated form.
    None,
    /// The last perturbation, computed on other samples and older weights.
    ///
    /// It is cut to the rows and positions that both batches have, and is zero elsewhere and on
    /// padding, so its norm never exceeds `rho`. With accumulation it is that of the last micro-batch.
    Reuse,
}

vxf_core::config! {
    /// Settings of the defence `vaccine`.
    pub struct VaccineConfig {
        /// Computes a new perturbation every tau steps (the paper's accelerated form); 1 means every step.
        pub tau: u64 = 1,
        /// The perturbation of the steps in between. none: no perturbation, as in the paper. reuse: the
        /// last perturbation, cut to the positions that both batches have.
        pub between: Between = Between::None,
    }
}

#[typetag::serde(name = "vaccine")]
impl DefenseConfig for VaccineConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::positive("tau", self.tau)
    }

    fn claims(&self) -> &'static [Claim] {
        &[Claim::DRIFT]
    }

    fn attacker(&self) -> Option<Value> {
        // It guards the loss on alignment data.
        Some(json!({ "name": "unalign" }))
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Vaccine::new(self.tau, self.between)))
    }

    fn perturber(&self) -> &'static str {
        "vaccine"
    }

    fn perturbed_share(&self) -> f64 {
        1.0 / self.tau as f64
    }
}

/// The group of entries whose L2 norm is `rho`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All sites, samples and positions of the batch, as in the reference; rho then depends on batch
    /// size, length and depth.
    Global,
    /// Each site.
    PerSite,
    /// Each sample, over its sites and positions.
    PerExample,
    /// Each position of each sample, over its sites.
    PerToken,
}

vxf_core::config! {
    /// Settings of the perturber `vaccine`.
    pub struct GradientPerturberConfig {
        /// Perturbation radius: the L2 norm of the perturbation within one scope.
        pub rho: f64 = 2.0,
        /// The entries that share one norm rho: global (the whole batch, as in the published code),
        /// per_site, per_example or per_token.
        pub scope: Scope = Scope::Global,
        /// Where hidden embeddings are perturbed: attention_output (as in the published code),
        /// block_output (the paper's equation 1), mlp_output or embedding; in all layers, or in one
        /// layer as in `attention_output.7`.
        pub sites: SiteSelection = SiteSelection::default(),
        /// Use the same dropout masks in both passes; the published code draws new ones.
        pub same_dropout: bool = false,
    }
}

#[typetag::serde(name = "vaccine")]
impl PerturberConfig for GradientPerturberConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.5..20:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(GradientPerturber::new(self.clone())))
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // rho is a norm over the whole batch, so it depends on batch size, depth and length.
        Map::from_iter([("rho".to_owned(), 5.0.into())])
    }

    fn passes(&self) -> usize {
        1
    }

    fn sites(&self) -> Option<&SiteSelection> {
        Some(&self.sites)
    }
}
