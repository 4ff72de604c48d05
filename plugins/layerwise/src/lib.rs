//! Vaccine on chosen layers: T-Vaccine and OASIS.
//!
//! Both measure, on one harmful sample from time to time, how large the gradient of its loss is at each
//! attention output. T-Vaccine draws layers with these probabilities; OASIS takes the largest, and keeps
//! the perturbation orthogonal to the mean harmful gradient.

mod algorithm;
mod config;
mod harm;

pub use algorithm::{Oasis, Targeted, Where};
pub use config::{
    OasisConfig, OasisPerturberConfig, TVaccineConfig, TVaccinePerturberConfig, Trained,
};

vxf_core::register! {
    defense "t-vaccine" => TVaccineConfig,
    summary: "Vaccine on layers drawn by their harmful gradient; only these train",
    paper: "Liu et al., Targeted Vaccine, 2024, arXiv 2410.09760, algorithm 1",
    stages: [Alignment],
}

vxf_core::register! {
    perturber "t-vaccine" => TVaccinePerturberConfig,
    summary: "Perturbs attention outputs of layers drawn by harmful gradient norm",
    paper: "Liu et al., Targeted Vaccine, 2024, arXiv 2410.09760, section 4",
}

vxf_core::register! {
    defense "oasis" => OasisConfig,
    summary: "Vaccine on sensitive layers, orthogonal to harmful gradients",
    paper: "OASIS, 2026; from the authors' code (xiaoroyi/OASIS)",
    stages: [Alignment],
}

vxf_core::register! {
    perturber "oasis" => OasisPerturberConfig,
    summary: "Perturbs sensitive layers orthogonally to the mean harmful gradient",
    paper: "OASIS, 2026; from the authors' code (xiaoroyi/OASIS)",
}
