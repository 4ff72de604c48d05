//! Safe samples beside the user's: VLGuard adds their loss in every step, SafeInstr mixes a share.

mod algorithm;
mod config;

pub use algorithm::Beside;
pub use config::{SafeInstrConfig, VlguardConfig};

vxf_core::register! {
    defense "vlguard" => VlguardConfig,
    summary: "Adds the loss of a few safe samples to every step",
    paper: "Zong et al., Safety Fine-Tuning at (Almost) No Cost, ICML 2024, arXiv 2402.02207",
    stages: [FineTuning],
}

vxf_core::register! {
    defense "safeinstr" => SafeInstrConfig,
    summary: "Trains on a mixture with a small share of safe samples",
    paper: "Bianchi et al., Safety-Tuned LLaMAs, ICLR 2024, arXiv 2309.07875",
    stages: [FineTuning],
}
