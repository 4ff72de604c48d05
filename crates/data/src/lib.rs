//! The user's data: files, schemas, templates and tokenizers.
//!
//! * [`Source`] selects a file, a directory or a data set of the hub, and the rows to use;
//!   [`Source::read`] returns the [`Sample`]s. A [`Schema`] gives the meaning of columns.
//! * [`mix`] mixes harmful samples with those of a task, as the published code does.
//! * [`grader`] returns the function that decides whether an answer to a task is correct.
//! * [`DataReport`] summarises what was read and dropped, and which questions sets share.

mod digest;
mod error;
mod files;
mod filter;
mod grade;
mod layout;
mod load;
mod mix;
mod provider;
pub mod refusals;
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
pub use load::{BadRow, Check, Loaded, Origin, Use};
pub use mix::{MixOrder, mix, mix_counts};
pub use provider::{
    DataConfig, DataContext, DataSource, Files, FilesConfig, Learned, Locate, Part, Purpose,
    Question, Questions, SourceEntry, TrainOn, paper, paper_settings,
};
pub use report::{DataReport, Lengths, Overlap, SetReport};
pub use sample::{Ask, Message, Role, Sample};
pub use sampling::Sampling;
pub use schema::{Schema, SchemaChoice};
pub use source::Source;
pub use text::{Codec, Encoded, Generation, TemplateChoice, TextError, other_tokenizer};
