//! SBR: the last hidden state of a few harmful prompts stays where it was.

mod algorithm;
mod config;

pub use algorithm::Sbr;
pub use config::SbrConfig;

vxf_core::register! {
    defense "sbr" => SbrConfig,
    summary: "Holds the last hidden state of a few harmful prompts",
    paper: "Safety Anchor (SBR), 2026, arXiv 2605.05995, and the authors' code",
    stages: [FineTuning],
}
