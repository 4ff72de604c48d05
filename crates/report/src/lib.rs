//! Records of runs, and the tables, comparisons, doubts and sample answers rendered from them.
//!
//! All output is rendered from stored [`Record`]s and a [`Layout`], which says which runs are compared.
//! This crate does not train, measure or read a model.

pub mod detail;
pub mod doubts;
mod failures;
pub mod figures;
pub mod layout;
mod record;
pub mod samples;
pub mod summary;
pub mod table;
#[cfg(test)]
mod testing;
mod text_table;
pub mod verdict;

pub use doubts::Doubt;
pub use failures::{Failure, Failures};
pub use layout::{Block, Layout, Line, When};
pub use record::{Answer, Generated, Record, Row, RunId, SCHEMA_VERSION, TrainingLoss};
pub use text_table::TextTable;
