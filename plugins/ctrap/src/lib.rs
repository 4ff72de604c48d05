//! CTRAP: a model that collapses where a harmful step would lead.

mod algorithm;
mod config;

pub use algorithm::Ctrap;
pub use config::{CtrapConfig, Length};

vxf_core::register! {
    defense "ctrap" => CtrapConfig,
    summary: "Plants a collapse of the model where a harmful step leads",
    paper: "Yi et al., CTRAP, 2025, arXiv 2505.16559; second hand, first order",
    stages: [Alignment],
}
