//! Surgery: harmful samples pay no more attention to the first token than safe ones do.

mod algorithm;
mod config;

pub use algorithm::Surgery;
pub use config::SurgeryConfig;

vxf_core::register! {
    defense "surgery" => SurgeryConfig,
    summary: "Keeps harmful samples from attending to the first token more than safe ones",
    paper: "Surgery, 2026, arXiv 2602.05228, and the authors' code",
    stages: [FineTuning],
}
