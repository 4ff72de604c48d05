//! Random perturbation: a control that shows whether the direction of the perturbation matters.
//!
//! The defence `random` is the min-max step with the perturber `gaussian`.

mod algorithm;
mod config;

pub use algorithm::{Gaussian, Random};
pub use config::{Form, GaussianConfig, RandomConfig};

vxf_core::register! {
    defense "random" => RandomConfig,
    summary: "Alignment under random perturbations, the control for Vaccine",
    paper: "Huang, Hu, Liu, Vaccine, NeurIPS 2024, Table 7",
    stages: [Alignment],
}

vxf_core::register! {
    perturber "gaussian" => GaussianConfig,
    summary: "Gaussian noise on hidden embeddings",
    paper: "Huang, Hu, Liu, Vaccine, NeurIPS 2024, Table 7",
}
