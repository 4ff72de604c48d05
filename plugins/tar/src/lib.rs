//! TAR: alignment against simulated attackers.

mod algorithm;
mod config;

pub use algorithm::Tar;
pub use config::TarConfig;

vxf_core::register! {
    defense "tar" => TarConfig,
    summary: "Keeps entropy on harmful data high along simulated attacks",
    paper: "Tamirisa et al., TAR, ICLR 2025, arXiv 2408.00761, algorithm 1",
    stages: [Alignment],
}
