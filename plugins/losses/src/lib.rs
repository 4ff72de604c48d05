//! Metrics over losses: alignment loss and perplexity.
//!
//! Both are the mean cross-entropy over labelled tokens: of the `alignment` samples in nats, which
//! shows how far the user's fine-tuning has undone the alignment, and of the `fluency` samples as
//! a perplexity, which shows whether a model is still one.

mod algorithm;
mod config;

pub use algorithm::{AlignmentLoss, MeanLoss, Perplexity, mean_loss};
pub use config::{AlignmentLossConfig, Average, PerplexityConfig};

vxf_core::register! {
    metric "alignment-loss" => AlignmentLossConfig,
    summary: "Mean cross-entropy on alignment samples",
    paper: "Huang, Hu, Liu, \"Vaccine\", NeurIPS 2024 (arXiv 2402.01109)",
}

vxf_core::register! {
    metric "perplexity" => PerplexityConfig,
    summary: "Perplexity on fluency samples, a guard against degenerate models",
    paper: "Jelinek et al., J. Acoust. Soc. Am. 62 (1977)",
}
