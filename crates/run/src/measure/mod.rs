//! Evaluation: test sets, generation, judges, metrics, and stored answers.

pub(crate) mod data;
pub mod evaluate;
pub mod generate;
pub mod health;
mod judges;
pub(crate) mod kept_answers;
pub mod metrics;
pub mod sampler;
pub(crate) mod stored_answers;

pub use data::{SeedData, Set};
pub use judges::Judges;
