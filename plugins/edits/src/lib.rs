//! Edits of finished weights, without training: SafeLoRA, WiSE-FT, LoX and Antidote.
//!
//! Antidote sets weights to zero. Each of the others multiplies the change of a weight since a reference model from the left: by a projection, by a
//! number, or by the identity plus a projection. Of an adapter this is an edit of its matrix B alone.

mod antidote;
mod change;
mod config;
mod lox;
mod safelora;
mod subspace;
mod wise;

pub use antidote::Antidote;
pub use config::{AntidoteConfig, LoxConfig, Pruned, SafeLoraConfig, WiseFtConfig};
pub use lox::Lox;
pub use safelora::SafeLora;
pub use subspace::leading_left;
pub use wise::WiseFt;

vxf_core::register! {
    defense "safelora" => SafeLoraConfig,
    summary: "Projects changes that leave the alignment's directions onto them",
    paper: "Hsu et al., Safe LoRA, NeurIPS 2024, arXiv 2405.16833, equations 1 to 3",
    stages: [PostTuning],
}

vxf_core::register! {
    defense "wise-ft" => WiseFtConfig,
    summary: "Moves the fine-tuned weights part of the way back to the aligned ones",
    paper: "Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, equation 1",
    stages: [PostTuning],
}

vxf_core::register! {
    defense "antidote" => AntidoteConfig,
    summary: "Sets the weights to zero that matter most on harmful samples",
    paper: "Huang et al., Antidote, ICML 2025, arXiv 2408.09600, and the authors' code",
    stages: [PostTuning],
}

vxf_core::register! {
    defense "lox" => LoxConfig,
    summary: "Extrapolates the leading directions of what alignment changed",
    paper: "Perin et al., LoX, COLM 2025, arXiv 2506.15606, section 4",
    stages: [Alignment],
}
