//! EWC: elastic weight consolidation in the user's fine-tuning.

mod algorithm;
mod config;

pub use algorithm::Ewc;
pub use config::{EwcConfig, Form};

vxf_core::register! {
    defense "ewc" => EwcConfig,
    summary: "Penalises changes of weights that the alignment loss depends on (Fisher)",
    paper: "Kirkpatrick et al., PNAS 2017; as baseline in Huang, Hu, Liu 2024, section 5.1",
    stages: [FineTuning],
}
