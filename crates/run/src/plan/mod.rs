//! What an experiment consists of, what it needs, and what it costs; nothing is loaded or trained.

pub(crate) mod check;
pub(crate) mod cost;
pub mod estimate;
pub mod graph;

pub use graph::{Graph, RunSpec, Source};
