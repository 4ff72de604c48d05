//! Task vectors: what harmful training does to a reference model is subtracted from the fine-tuned one.

mod algorithm;
mod config;

pub use algorithm::Subtraction;
pub use config::{RestaConfig, TaskArithmeticConfig, Thinned};

vxf_core::register! {
    defense "task-arithmetic" => TaskArithmeticConfig,
    summary: "Subtracts what harmful training does to the base model",
    paper: "Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, section 3",
    stages: [PostTuning],
}

vxf_core::register! {
    defense "resta" => RestaConfig,
    summary: "Adds the way back from a harmfully trained model to the aligned one",
    paper: "Bhardwaj et al., RESTA, ACL 2024, arXiv 2402.11746; second hand",
    stages: [PostTuning],
}
