//! LDIFS: the user's loss plus the distance of features from the aligned model's.

mod algorithm;
mod config;

pub use algorithm::Ldifs;
pub use config::LdifsConfig;

vxf_core::register! {
    defense "ldifs" => LdifsConfig,
    summary: "Penalises the distance of MLP outputs from the aligned model's",
    paper: "Mukhoti et al., LDIFS, TMLR 2024, arXiv 2308.13320, equation 4",
    stages: [FineTuning],
}
