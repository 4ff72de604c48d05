//! Metric: harmful embedding drift.
//!
//! How far the user's fine-tuning has moved the hidden embeddings of alignment samples away from
//! where the aligned model had them (Huang, Hu, Liu, "Vaccine", NeurIPS 2024, section 3.2). The
//! published figure depends on norm, reduction and padding; here each is a setting, and the
//! published choice is the preset `reference`.

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
