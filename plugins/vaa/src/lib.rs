//! VAA: samples that a simulated attack makes the model forget are drawn more often, and trained under the
//! worst change of the weights.

mod algorithm;
mod config;
mod groups;

pub use algorithm::Vaa;
pub use config::VaaConfig;

vxf_core::register! {
    defense "vaa" => VaaConfig,
    summary: "Draws samples that an attack makes it forget more often, under weight ascent",
    paper: "Chen et al., VAA, ICML 2025, arXiv 2506.03850, and the authors' code",
    stages: [Alignment],
}
