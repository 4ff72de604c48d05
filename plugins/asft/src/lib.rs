//! AsFT: the user's change is held to the directions of alignment.

mod algorithm;
mod config;

pub use algorithm::Asft;
pub use config::AsftConfig;

vxf_core::register! {
    defense "asft" => AsftConfig,
    summary: "Penalises changes orthogonal to what alignment changed",
    paper: "Yang et al., AsFT, 2025, arXiv 2506.08473, and the authors' code",
    stages: [FineTuning],
}
