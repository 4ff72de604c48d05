//! Records of runs, and what is rendered from them: tables, comparisons, sample answers.
//!
//! Everything that is printed comes from stored [`Record`]s and a [`Layout`], which says which runs
//! are compared. Nothing here trains, measures or reads a model.

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
