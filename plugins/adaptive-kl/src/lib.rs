//! Adaptive KL: samples that look harmful are held to the aligned model, the others are learnt.

mod algorithm;
mod config;
mod probe;

pub use algorithm::AdaptiveKl;
pub use config::AdaptiveKlConfig;

vxf_core::register! {
    defense "adaptive-kl" => AdaptiveKlConfig,
    summary: "Holds samples that look harmful to the aligned model's predictions",
    paper: "Adaptive regularisation, 2026, arXiv 2602.17546, and the authors' code",
    stages: [FineTuning],
}
