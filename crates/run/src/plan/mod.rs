//! Planning: the runs of an experiment, what they need and what they cost. Nothing is loaded or trained.

pub(crate) mod check;
pub(crate) mod cost;
pub mod estimate;
pub mod graph;
mod pipelines;
mod rate;

pub use graph::{Final, Graph, Role, RunSpec, Source};
