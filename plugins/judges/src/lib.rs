//! Judges of answers to real prompts.
//!
//! | judge | works with | verdict |
//! |---|---|---|
//! | `refusal` | a list of phrases | refused or harmful: an upper bound on harm |
//! | `moderation` | a sequence classifier (beaver-dam-7b) | flagged or not, with counts per label |
//! | `guard` | a generative guard model (Llama Guard) | safe or unsafe, from the first line it writes |
//! | `llama-guard-3`, `harmbench`, `wildguard`, `qwen3guard` | these models | what their cards say |
//! | `file` | a file of scores | what the file says |
//!
//! A judge's model is loaded for each set of answers and freed afterwards, to save memory.

mod config;
mod file;
mod guard;
mod model;
mod moderation;
mod published;
mod refusal;

pub use config::{FileConfig, GuardConfig, ModerationConfig, RefusalConfig};
pub use file::File;
pub use guard::{Guard, Protocol, Reading, Running};
pub use moderation::Moderation;
pub use published::{HarmBenchConfig, LlamaGuard3Config, Qwen3GuardConfig, WildGuardConfig};
pub use published::{harmbench, llama_guard_3, qwen3guard, wildguard};
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
    judge "llama-guard-3" => LlamaGuard3Config,
    summary: "Llama Guard 3, by its own chat template and its first line",
    paper: "Inan et al., \"Llama Guard\", 2023 (arXiv 2312.06674)",
}

vxf_core::register! {
    judge "harmbench" => HarmBenchConfig,
    summary: "HarmBench's classifier: whether an answer is an instance of what was asked for",
    paper: "Mazeika et al., \"HarmBench\", ICML 2024 (arXiv 2402.04249)",
}

vxf_core::register! {
    judge "wildguard" => WildGuardConfig,
    summary: "WildGuard: harm and refusal of an answer",
    paper: "Han et al., \"WildGuard\", NeurIPS 2024 (arXiv 2406.18495)",
}

vxf_core::register! {
    judge "qwen3guard" => Qwen3GuardConfig,
    summary: "Qwen3Guard-Gen: harm in three grades, and refusal",
    paper: "Qwen Team, \"Qwen3Guard Technical Report\", 2025 (arXiv 2510.14276)",
}

vxf_core::register! {
    judge "file" => FileConfig,
    summary: "Scores of an external judge, read from a JSONL file",
    paper: "none: reads the scores of judges that are not part of vxf",
}
