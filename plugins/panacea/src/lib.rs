//! Panacea: the most harmful direction is followed during the user's training and added afterwards.

mod algorithm;
mod config;

pub use algorithm::Panacea;
pub use config::PanaceaConfig;

vxf_core::register! {
    defense "panacea" => PanaceaConfig,
    summary: "Adds an adaptive, harmful-loss-raising change after fine-tuning",
    paper: "Wang et al., Panacea, NeurIPS 2025, arXiv 2501.18100, algorithm 1",
    stages: [FineTuning],
}
