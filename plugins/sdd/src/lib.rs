//! SDD: harmful prompts are answered with unrelated harmless text.

mod algorithm;
mod config;

pub use algorithm::Sdd;
pub use config::SddConfig;

vxf_core::register! {
    defense "sdd" => SddConfig,
    summary: "Answers harmful prompts with unrelated harmless text",
    paper: "Chen et al., SDD: Self-Degraded Defense, ACL 2025; second hand",
    stages: [Alignment],
}
