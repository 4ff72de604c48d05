//! RepNoise and SEAM: the harmful loss is raised, as every layer sees it.

mod config;
mod harmful;
mod mmd;
mod repnoise;
mod seam;

pub use config::{RepNoiseConfig, SeamConfig};
pub use repnoise::RepNoise;
pub use seam::Seam;

vxf_core::register! {
    defense "repnoise" => RepNoiseConfig,
    summary: "Makes harmful representations noise and raises the harmful loss",
    paper: "Rosati et al., Representation Noising, NeurIPS 2024, arXiv 2405.14577, equation 2",
    stages: [Alignment],
}

vxf_core::register! {
    defense "seam" => SeamConfig,
    summary: "Opposes harmful and benign gradients: harmful training breaks the model",
    paper: "Wang et al., Self-Destructive Language Models, 2025, arXiv 2505.12186, equation 8",
    stages: [Alignment],
}
