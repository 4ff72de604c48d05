//! Two plain measures for the user's fine-tuning: an average of the weights, and frozen layers.

mod algorithm;
mod config;

pub use algorithm::{Ema, Freeze};
pub use config::{EmaConfig, FreezeConfig, Frozen};

vxf_core::register! {
    defense "ema" => EmaConfig,
    summary: "Gives away a moving average of the weights instead of the last ones",
    paper: "Kim et al., Rethinking Safety in LLM Fine-tuning: An Optimization View, COLM 2025",
    stages: [Alignment, FineTuning],
}

vxf_core::register! {
    defense "freeze" => FreezeConfig,
    summary: "Freezes layers or parts of the model during fine-tuning",
    paper: "as SPPFT in Li et al., Safety Layers in Aligned LLMs, ICLR 2025, arXiv 2408.17003",
    stages: [Alignment, FineTuning],
}
