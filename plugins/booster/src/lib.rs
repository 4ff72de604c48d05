//! Booster: the harmful loss should fall little along the step that an attacker would take.

mod algorithm;
mod config;

pub use algorithm::Booster;
pub use config::BoosterConfig;

vxf_core::register! {
    defense "booster" => BoosterConfig,
    summary: "Lessens how much a harmful step lowers the harmful loss",
    paper: "Huang et al., Booster, ICLR 2025, arXiv 2409.01586, equation 1 and algorithm 1",
    stages: [Alignment],
}
