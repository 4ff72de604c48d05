//! Records of runs, and the tables, comparisons and sample answers rendered from them.
//!
//! All output is rendered from stored [`Record`]s and a [`Layout`], which says which runs are compared.
//! This crate does not train, measure or read a model.

pub mod detail;
mod failures;
pub mod layout;
mod record;
pub mod samples;
pub mod statistics;
pub mod table;
mod text_table;

pub use failures::{Failure, Failures};
pub use layout::{Block, Layout, Line, When};
pub use record::{Answer, Generated, Record, Row, RunId, SCHEMA_VERSION, TrainingLoss};
pub use text_table::TextTable;
