//! The judge of the embedded world: its rules, and the plugin `world`.
//!
//! A refusal is recognised by its first words, help by its content. The rules need no model.

mod algorithm;
mod config;
mod rules;

pub use algorithm::World;
pub use config::WorldConfig;
pub use rules::{COMPLIANCE_FIRST_WORDS, REFUSAL_FIRST_WORDS, Verdict, exact_match, judge};

vxf_core::register! {
    judge "world" => WorldConfig,
    summary: "Judges answers in the embedded world by rules",
    paper: "none: defined with the embedded world of vxf",
}
