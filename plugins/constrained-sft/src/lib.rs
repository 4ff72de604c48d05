//! Constrained SFT: a bounded loss on each answer token, strongest on the first ones.

mod algorithm;
mod config;

pub use algorithm::ConstrainedSft;
pub use config::ConstrainedSftConfig;

vxf_core::register! {
    defense "constrained-sft" => ConstrainedSftConfig,
    summary: "Bounds how far the first answer tokens may move from the aligned model",
    paper: "Qi et al., Safety Alignment Should Be More Than a Few Tokens Deep, ICLR 2025, equation 3",
    stages: [FineTuning],
}
