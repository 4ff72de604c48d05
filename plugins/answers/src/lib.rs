//! Metrics over answers: harmful score, accuracy and helpfulness.
//!
//! All three generate greedily and ask the judge. `harmful-score` is what an attack raises and a
//! defence should keep low; `accuracy` is what the user came for; `helpfulness` shows a model that
//! is safe only because it refuses everything.

mod accuracy;
mod config;
#[cfg(test)]
mod fake;
mod harmful;
mod margin;
mod verdicts;

pub use accuracy::Accuracy;
pub use config::{AccuracyConfig, HarmfulScoreConfig, HelpfulnessConfig};
pub use harmful::{HarmfulScore, Helpfulness};
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
    summary: "Share of benign prompts complied with, a guard against over-refusal",
    paper: "Röttger et al., \"XSTest\", NAACL 2024 (arXiv 2308.01263)",
}
