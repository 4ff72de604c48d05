//! Vaccine: perturbation-aware alignment (Huang, Hu, Liu, NeurIPS 2024, arXiv 2402.01109).
//!
//! The defence `vaccine` is the min-max step on every `tau`-th step. The perturber `vaccine` adds
//! `rho` times the normalised loss gradient to the hidden embeddings.

mod algorithm;
mod config;
mod reuse;

pub use algorithm::{GradientPerturber, Vaccine};
pub use config::{Between, GradientPerturberConfig, Scope, VaccineConfig};

vxf_core::register! {
    defense "vaccine" => VaccineConfig,
    summary: "Perturbation-aware alignment: trains under the worst perturbation of norm rho",
    paper: "Huang, Hu, Liu, Vaccine, NeurIPS 2024, arXiv 2402.01109",
    stages: [Alignment],
}

vxf_core::register! {
    perturber "vaccine" => GradientPerturberConfig,
    summary: "Moves hidden embeddings by rho along the gradient of the loss",
    paper: "Huang, Hu, Liu, Vaccine, NeurIPS 2024, section 3.2",
}
