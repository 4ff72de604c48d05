//! Defences `none` and `sft`, and the perturber `none`: the baselines.

mod algorithm;
mod config;

pub use algorithm::{NoPerturbation, NonAligned, Sft};
pub use config::{NoPerturbationConfig, NonAlignedConfig, SftConfig};

vxf_core::register! {
    defense "none" => NonAlignedConfig,
    summary: "No alignment: the base model as it is",
    paper: "Huang, Hu, Liu 2024, section 5.1 (Non-aligned)",
    stages: [Alignment],
}

vxf_core::register! {
    defense "sft" => SftConfig,
    summary: "Plain supervised fine-tuning",
    paper: "Huang, Hu, Liu 2024, section 5.1 (SFT)",
    stages: [Alignment, FineTuning],
}

vxf_core::register! {
    perturber "none" => NoPerturbationConfig,
    summary: "No perturbation: the min-max step is plain fine-tuning",
    paper: "-",
}
