//! Records of runs, and the tables, comparisons, pictures, doubts and sample answers made from them.
//!
//! All output is made from stored [`Record`]s, logs and a [`Layout`], which says which runs are compared. A
//! report is a list of [`Part`]s, which [`mod@format`] renders. This crate does not train, measure or read a
//! model.

pub mod charts;
pub mod compare;
pub mod cost;
pub mod curve;
pub mod detail;
pub mod document;
pub mod doubts;
pub mod durability;
pub mod escape;
mod failures;
pub mod figures;
pub mod format;
pub mod layout;
pub mod objective;
pub mod picture;
pub mod plot;
mod record;
pub mod samples;
pub mod summary;
pub mod table;
#[cfg(test)]
mod testing;
mod text_table;
pub mod verdict;

pub use curve::Curve;
pub use document::{Part, Terminal};
pub use doubts::Doubt;
pub use failures::{Failure, Failures};
pub use layout::{Block, Layout, Line, When};
pub use picture::Picture;
pub use record::{Answer, Followed, Generated, Record, Row, RunId, SCHEMA_VERSION, TrainingLoss};
pub use text_table::{TextTable, Tone};
