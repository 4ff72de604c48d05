//! Attacks on a released model that edit its weights without training: abliteration and pruning.

mod abliterate;
mod config;
mod prune;

pub use abliterate::{Abliterate, mean_at_last_prompt_token, without};
pub use config::{AbliterateConfig, PruneConfig};
pub use prune::Prune;

vxf_core::register! {
    defense "abliterate" => AbliterateConfig,
    summary: "An attack: removes the direction of refusal from all weights that write to it",
    paper: "Arditi et al., Refusal in language models is mediated by a single direction, NeurIPS 2024, arXiv 2406.11717, equations 1 to 5",
    stages: [FineTuning],
}

vxf_core::register! {
    defense "prune" => PruneConfig,
    summary: "An attack: sets the smallest weights of each matrix to zero",
    paper: "Han et al., Learning both weights and connections, NeurIPS 2015",
    stages: [FineTuning],
}
