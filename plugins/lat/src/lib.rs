//! LAT: the min-max step with an inner player of several projected gradient steps.

mod algorithm;
mod config;

pub use algorithm::{Lat, Projected};
pub use config::{LatConfig, ProjectedConfig};

vxf_core::register! {
    defense "lat" => LatConfig,
    summary: "Trains under perturbations of hidden embeddings found in several steps",
    paper: "Casper et al., Latent Adversarial Training, 2024, arXiv 2403.05030; second hand",
    stages: [Alignment],
}

vxf_core::register! {
    perturber "lat" => ProjectedConfig,
    summary: "Several gradient steps on hidden embeddings, each projected onto a ball",
    paper: "Casper et al., Latent Adversarial Training, 2024, arXiv 2403.05030; second hand",
}
