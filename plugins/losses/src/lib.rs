//! Metrics over losses: alignment loss, its curvature along the attack, and perplexity.
//!
//! Alignment loss and perplexity are mean cross-entropies over labelled tokens. On the `alignment` samples it shows how far
//! fine-tuning has undone the alignment; on the `fluency` samples, as a perplexity, it shows whether
//! the model still writes sensible text.

mod algorithm;
mod config;
mod curvature;

pub use algorithm::{AlignmentLoss, MeanLoss, Perplexity, mean_loss};
pub use config::{AlignmentLossConfig, Average, CurvatureConfig, PerplexityConfig};
pub use curvature::Curvature;

vxf_core::register! {
    metric "alignment-loss" => AlignmentLossConfig,
    summary: "Mean cross-entropy on alignment samples",
    paper: "Huang, Hu, Liu, \"Vaccine\", NeurIPS 2024 (arXiv 2402.01109)",
}

vxf_core::register! {
    metric "perplexity" => PerplexityConfig,
    summary: "Perplexity on fluency samples, to detect degenerate models",
    paper: "Jelinek et al., J. Acoust. Soc. Am. 62 (1977)",
}

vxf_core::register! {
    metric "curvature" => CurvatureConfig,
    summary: "How the alignment loss bends from the aligned model to the fine-tuned one",
    paper: "none: a second difference",
}
