//! Lisa: the user's fine-tuning alternates with alignment, and each stays near the other.

mod algorithm;
mod config;

pub use algorithm::Lisa;
pub use config::{BsoConfig, LisaConfig};

vxf_core::register! {
    defense "lisa" => LisaConfig,
    summary: "Alternates steps on alignment and user data, each kept near the other",
    paper: "Huang et al., Lisa, NeurIPS 2024, arXiv 2405.18641, algorithm 1",
    stages: [FineTuning],
}

vxf_core::register! {
    defense "bso" => BsoConfig,
    summary: "Alternates steps on alignment and user data: Lisa at rho = 0",
    paper: "Huang et al., Lisa, NeurIPS 2024, arXiv 2405.18641, section 4",
    stages: [FineTuning],
}
