//! Attacks on a released model: abliteration and pruning edit its weights, `unalign` trains against alignment.

mod abliterate;
mod config;
mod prune;
mod unalign;

pub use abliterate::{Abliterate, mean_at_last_prompt_token, without};
pub use config::{AbliterateConfig, PruneConfig, UnalignConfig};
pub use prune::Prune;
pub use unalign::Unalign;

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

vxf_core::register! {
    defense "unalign" => UnalignConfig,
    summary: "An attack: raises the loss on alignment data while it learns the user's",
    paper: "none: the objective of alignment turned around, argued in docs/durability.md",
    stages: [FineTuning],
}
