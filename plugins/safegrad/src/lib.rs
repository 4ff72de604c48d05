//! SafeGrad: the user's gradient loses what conflicts with the alignment gradient.

mod algorithm;
mod config;

pub use algorithm::SafeGrad;
pub use config::{Loss, SafeGradConfig};

vxf_core::register! {
    defense "safegrad" => SafeGradConfig,
    summary: "Removes from the user's gradient what conflicts with alignment",
    paper: "Gradient Surgery for Safe LLM Fine-Tuning (SafeGrad), 2025; second hand",
    stages: [FineTuning],
}
