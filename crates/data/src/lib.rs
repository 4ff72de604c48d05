//! The user's data: files, schemas, templates and tokenizers.
//!
//! * [`Source`] names a file, a directory or a data set of the hub, and which of its rows are
//!   taken; [`Source::read`] gives the [`Sample`]s. What columns mean, a [`Schema`] says.
//! * [`mix`] puts harmful samples among those of a task, as the published code does.
//! * [`grader`] gives what decides whether an answer to a task is right.
//! * [`DataReport`] tells what was read, what became of it, and which questions sets share.

mod digest;
mod error;
mod files;
mod filter;
mod grade;
mod layout;
mod load;
mod mix;
mod provider;
mod report;
mod sample;
mod sampling;
mod schema;
mod source;
pub mod text;

pub use digest::FileRead;
pub use error::{Error, Result};
pub use grade::grader;
pub use layout::{LocalRepository, Repository};
pub use load::{BadRow, Loaded, Origin};
pub use mix::{MixOrder, mix, mix_counts};
pub use provider::{
    DataConfig, DataContext, DataSource, Files, FilesConfig, Learned, Locate, Part, Purpose,
    Question, Questions, SourceEntry, paper,
};
pub use report::{DataReport, Lengths, Overlap, SetReport};
pub use sample::{Ask, Message, Role, Sample};
pub use sampling::Sampling;
pub use schema::{Schema, SchemaChoice};
pub use source::Source;
pub use text::{Codec, Encoded, TemplateChoice, TextError};
