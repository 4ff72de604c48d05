//! Settings of the defence and of its inner player.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vxf_core::prelude::*;

use crate::algorithm::{GradientPerturber, Vaccine};

/// What a step without a fresh perturbation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// A plain step, as the paper's accelerated form.
    None,
    /// A step at the perturbation found last, which was found on other samples and older weights.
    ///
    /// It is cut to the rows and positions that both batches have, and zero elsewhere and on
    /// padding, so that its norm never exceeds `rho`. With accumulation it is the one of the last
    /// micro-batch of its step.
    Reuse,
}

vxf_core::config! {
    /// Settings of the defence `vaccine`.
    pub struct VaccineConfig {
        /// A fresh perturbation every tau steps (the paper's accelerated form); 1 perturbs always.
        pub tau: u64 = 1,
        /// What the steps in between do: none (plain steps, the paper's) or reuse (the last
        /// perturbation, found on another batch, cut to what both batches share).
        pub between: Between = Between::None,
    }
}

#[typetag::serde(name = "vaccine")]
impl DefenseConfig for VaccineConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.tau > 0, "tau", "must be at least 1", self.tau)
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

/// What shares one budget `rho`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All sites, samples and positions of the batch together, as the reference: rho then depends
    /// on batch size, length and depth.
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
        /// Perturbation radius rho: the L2 norm of what is added, within its scope.
        pub rho: f64 = 2.0,
        /// What shares one budget: global (the reference), per_site, per_example or per_token.
        pub scope: Scope = Scope::Global,
        /// Sites to perturb: attention_output (the reference), block_output (the paper's equation 1),
        /// mlp_output, embedding; with `.7` for one layer.
        pub sites: SiteSelection = SiteSelection::default(),
        /// Draw the same dropout masks in both passes; the reference draws fresh ones.
        pub same_dropout: bool = false,
    }
}

#[typetag::serde(name = "vaccine")]
impl PerturberConfig for GradientPerturberConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = self.rho.is_finite() && self.rho >= 0.0;
        ConfigError::unless(holds, "rho", "must be finite and at least 0", self.rho)
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(GradientPerturber::new(self.clone())))
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // rho is a norm over a whole batch: it depends on batch size, depth and length.
        Map::from_iter([("rho".to_owned(), 5.0.into())])
    }

    fn passes(&self) -> usize {
        1
    }

    fn sites(&self) -> Option<&SiteSelection> {
        Some(&self.sites)
    }
}
