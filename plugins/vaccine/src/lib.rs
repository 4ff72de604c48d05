//! Vaccine: perturbation-aware alignment (Huang, Hu, Liu, NeurIPS 2024, arXiv 2402.01109).
//!
//! The defence `vaccine` is the min-max step itself, on every `tau`-th step; the perturber
//! `vaccine` is its inner player, which adds `rho` times the direction of the loss gradient to the
//! hidden embeddings.

mod algorithm;
mod config;
mod reuse;

pub use algorithm::{GradientPerturber, Vaccine};
pub use config::{Between, GradientPerturberConfig, Scope, VaccineConfig};

vxf_core::register! {
    defense "vaccine" => VaccineConfig,
    summary: "Perturbation-aware alignment: train at the worst hidden embeddings within rho",
    paper: "Huang, Hu, Liu, Vaccine, NeurIPS 2024, arXiv 2402.01109",
    stages: [Alignment],
}

vxf_core::register! {
    perturber "vaccine" => GradientPerturberConfig,
    summary: "Hidden embeddings moved by rho along the gradient of the loss",
    paper: "Huang, Hu, Liu, Vaccine, NeurIPS 2024, section 3.2",
}
