//! Metric: harmful embedding drift.
//!
//! How far fine-tuning has moved the hidden embeddings of alignment samples from those of the
//! aligned model (Huang, Hu, Liu, "Vaccine", NeurIPS 2024, section 3.2). Norm, reduction and padding
//! are settings; the preset `reference` is the published choice.

mod algorithm;
mod config;
#[cfg(test)]
mod fake;
mod reduction;

pub use algorithm::{Drift, DriftMetric, drift, reference_drift};
pub use config::{DriftConfig, Norm, Preset, Reduce};

vxf_core::register! {
    metric "drift" => DriftConfig,
    summary: "How far hidden embeddings have moved from the aligned model's",
    paper: "Huang, Hu, Liu, \"Vaccine\", NeurIPS 2024 (arXiv 2402.01109)",
}
