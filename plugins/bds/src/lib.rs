//! BDS: samples whose loss stays high beside safe data lose weight.

mod algorithm;
mod config;
mod scores;

pub use algorithm::Bds;
pub use config::BdsConfig;

vxf_core::register! {
    defense "bds" => BdsConfig,
    summary: "Learns a weight for each of the user's samples beside safe data",
    paper: "Hu et al., Bayesian Data Scheduler, NeurIPS 2025, arXiv 2510.27172, and the authors' code",
    stages: [FineTuning],
}
