//! One-shot repair: some steps on very few safe samples, after the user's fine-tuning.

mod config;
mod repair;

pub use config::OneShotConfig;
pub use repair::OneShot;

vxf_core::register! {
    defense "one-shot-repair" => OneShotConfig,
    summary: "Trains on one safe sample after the user's fine-tuning",
    paper: "Safety at One Shot, ICLR 2026, arXiv 2601.01887, from its abstract",
    stages: [PostTuning],
}
