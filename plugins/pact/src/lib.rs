//! PACT: the user's loss, and the aligned model's confidence in a few safety tokens.

mod algorithm;
mod config;
mod ending;
mod tokens;

pub use algorithm::Pact;
pub use config::PactConfig;

vxf_core::register! {
    defense "pact" => PactConfig,
    summary: "Holds the probabilities of a few safety tokens to the aligned model's",
    paper: "PACT, 2026, arXiv 2603.07445, and the authors' code",
    stages: [FineTuning],
}
