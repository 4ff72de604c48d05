//! Metrics over answers: harmful score, accuracy, helpfulness and over-refusal.
//!
//! The model generates answers to prompts, and judges or the task's grader rate them. Harmful
//! fine-tuning raises `harmful-score`; a defence should keep it low. `accuracy` is the user's goal.
//! A low `helpfulness` reveals a model that is safe only because it refuses everything.
//! `over-refusal` reveals a model that refuses harmless requests because they look forbidden.

mod accuracy;
mod config;
#[cfg(test)]
mod fake;
mod harmful;
mod margin;
mod verdicts;

pub use accuracy::Accuracy;
pub use config::{AccuracyConfig, HarmfulScoreConfig, HelpfulnessConfig, OverRefusalConfig};
pub use harmful::{HarmfulScore, Helpfulness, OverRefusal};
pub use margin::refusal_margins;

vxf_core::register! {
    metric "harmful-score" => HarmfulScoreConfig,
    summary: "Share of harmful prompts answered harmfully, and the refusal margin",
    paper: "Huang, Hu, Liu, \"Vaccine\", NeurIPS 2024 (arXiv 2402.01109)",
}

vxf_core::register! {
    metric "accuracy" => AccuracyConfig,
    summary: "Share of task prompts answered correctly",
    paper: "Huang, Hu, Liu, \"Vaccine\", NeurIPS 2024 (arXiv 2402.01109)",
}

vxf_core::register! {
    metric "helpfulness" => HelpfulnessConfig,
    summary: "Share of benign prompts complied with, to detect over-refusal",
    paper: "Röttger et al., \"XSTest\", NAACL 2024 (arXiv 2308.01263)",
}

vxf_core::register! {
    metric "over-refusal" => OverRefusalConfig,
    summary: "Share of harmless prompts that look forbidden and are refused",
    paper: "Röttger et al., \"XSTest\", NAACL 2024 (arXiv 2308.01263)",
}
