//! KL: fine-tuning with a penalty on the divergence from the aligned model's predictions.

mod algorithm;
mod config;

pub use algorithm::Kl;
pub use config::{Form, KlConfig};

vxf_core::register! {
    defense "kl" => KlConfig,
    summary: "Penalises the KL divergence from the aligned model's predictions",
    paper: "Baseline in Huang, Hu, Liu, Vaccine, NeurIPS 2024, section 5.1",
    stages: [FineTuning],
}
