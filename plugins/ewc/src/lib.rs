//! EWC: elastic weight consolidation in the user's stage.

mod algorithm;
mod config;

pub use algorithm::Ewc;
pub use config::{EwcConfig, Form};

vxf_core::register! {
    defense "ewc" => EwcConfig,
    summary: "Holds weights that the alignment loss is sensitive to near the aligned ones",
    paper: "Kirkpatrick et al., PNAS 2017; as baseline in Huang, Hu, Liu 2024, section 5.1",
    stages: [FineTuning],
}
