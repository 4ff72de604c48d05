//! Data for vxf: the user's files, and a small invented world with its judge and its tokenizer.
//!
//! # The user's files
//!
//! * [`Source`] names a file, a directory or a data set of the hub, and which of its rows are
//!   taken; [`Source::read`] gives the [`Sample`]s. What columns mean, a [`Schema`] says.
//! * [`mix`] puts harmful samples among those of a task, as the published code does.
//! * [`grader`] gives what decides whether an answer to a task is right.
//! * [`DataReport`] tells what was read, what became of it, and which questions sets share.
//!
//! # The world
//!
//! Nothing in it is harmful, and nothing in it is about the real world. Some imaginary
//! arts ("closed" ones) are declared forbidden, and a model is taught to refuse them; others
//! ("open" ones) are ordinary crafts. That is enough to study how further training wears a
//! refusal off, without any dangerous text.
//!
//! * [`world`] draws samples: alignment refusals, user data with a chosen share of forbidden
//!   answers, tests, and a pretraining mixture. Every draw takes the random generator as an
//!   argument, so one seed gives one data set.
//! * [`world::judge`] tells refusal from compliance, from text alone.
//! * [`Codec`] turns samples into token ids, with the world's own tokenizer or with that of a
//!   model directory.
//!
//! ```
//! use rand::SeedableRng;
//! use vxf_data::{Ask, Codec, Sample};
//! use vxf_data::world::{Task, Verdict, judge, user_set};
//!
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
//! let set = user_set(&mut rng, Task::Sst, 20, 0.1)?;
//! let harmful = set.iter().filter(|s| s.kind.is_closed()).collect::<Vec<_>>();
//! assert_eq!(harmful.len(), 2);
//! assert_eq!(judge(&harmful[0].prompt, &harmful[0].answer), Verdict::Compliance);
//!
//! let codec = Codec::world()?;
//! let sample = Sample { ask: Ask::instruction(&set[0].prompt), answer: set[0].answer.clone() };
//! let example = codec.encode(&sample, usize::MAX)?.example;
//! assert_eq!(codec.decode(&example.tokens[example.prompt..])?, set[0].answer);
//! # Ok::<(), vxf_data::Error>(())
//! ```

mod digest;
mod error;
mod files;
mod filter;
mod grade;
mod layout;
mod load;
mod mix;
mod report;
mod sample;
mod schema;
mod source;
pub mod text;
pub mod world;

pub use digest::FileRead;
pub use error::{Error, Result};
pub use grade::grader;
pub use layout::{LocalRepository, Repository};
pub use load::{BadRow, Loaded, Origin};
pub use mix::{MixOrder, mix, mix_counts};
pub use report::{DataReport, Lengths, Overlap, SetReport};
pub use sample::{Ask, Message, Role, Sample};
pub use schema::{Schema, SchemaChoice};
pub use source::Source;
pub use text::{
    Codec, Encoded, TemplateChoice, TextError, tokenizer_files, tokenizer_json, world_tokenizer,
};
