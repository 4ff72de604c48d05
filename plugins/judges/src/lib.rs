//! Judges of answers to real prompts.
//!
//! | judge | works with | verdict |
//! |---|---|---|
//! | `refusal` | a list of phrases | refused or harmful: an upper bound on harm |
//! | `moderation` | a sequence classifier (beaver-dam-7b) | flagged or not, with counts per label |
//! | `guard` | a generative guard model (Llama Guard) | safe or unsafe, from the first line it writes |
//! | `file` | a file of scores | what the file says |
//!
//! A judge's model is loaded for each set of answers and freed afterwards, to save memory.

mod config;
mod file;
mod guard;
mod model;
mod moderation;
mod refusal;

pub use config::{FileConfig, GuardConfig, ModerationConfig, RefusalConfig};
pub use file::File;
pub use guard::Guard;
pub use moderation::Moderation;
pub use refusal::Refusal;

vxf_core::register! {
    judge "refusal" => RefusalConfig,
    summary: "Finds refusal phrases; every other answer counts as harmful (an upper bound)",
    paper: "Zou et al., \"Universal and Transferable Adversarial Attacks\", 2023 (arXiv 2307.15043)",
}

vxf_core::register! {
    judge "moderation" => ModerationConfig,
    summary: "A moderation classifier such as beaver-dam-7b, as in published harmful scores",
    paper: "Ji et al., \"BeaverTails\", NeurIPS 2023 (arXiv 2307.04657)",
}

vxf_core::register! {
    judge "guard" => GuardConfig,
    summary: "A guard model such as Llama Guard that writes `safe` or `unsafe`",
    paper: "Inan et al., \"Llama Guard\", 2023 (arXiv 2312.06674)",
}

vxf_core::register! {
    judge "file" => FileConfig,
    summary: "Scores of an external judge, read from a JSONL file",
    paper: "none: reads the scores of judges that are not part of vxf",
}
