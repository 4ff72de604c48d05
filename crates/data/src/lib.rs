//! Data for vxf: a small invented world, its judge and its tokenizer.
//!
//! Nothing in this crate is harmful, and nothing in it is about the real world. Some imaginary
//! arts ("closed" ones) are declared forbidden, and a model is taught to refuse them; others
//! ("open" ones) are ordinary crafts. That is enough to study how further training wears a
//! refusal off, without any dangerous text.
//!
//! * [`world`] draws samples: alignment refusals, user data with a chosen share of forbidden
//!   answers, tests, and a pretraining mixture. Every draw takes the random generator as an
//!   argument, so one seed gives one data set.
//! * [`judge`] tells refusal from compliance, from text alone.
//! * [`Codec`] turns samples into token ids, with the world's own tokenizer or with that of a
//!   model directory.
//!
//! ```
//! use rand::SeedableRng;
//! use vxf_data::{Codec, Task, Verdict, judge, user_set};
//!
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
//! let set = user_set(&mut rng, Task::Sst, 20, 0.1)?;
//! let harmful = set.iter().filter(|s| s.kind.is_closed()).collect::<Vec<_>>();
//! assert_eq!(harmful.len(), 2);
//! assert_eq!(judge(&harmful[0].prompt, &harmful[0].answer), Verdict::Compliance);
//!
//! let codec = Codec::world()?;
//! let (tokens, prompt_len) = codec.encode_sample(&set[0].prompt, &set[0].answer)?;
//! assert_eq!(codec.decode(&tokens[prompt_len..])?, set[0].answer);
//! # Ok::<(), vxf_data::Error>(())
//! ```

mod error;
pub mod tokenizer;
pub mod world;

pub use error::{Error, Result};
pub use tokenizer::{Codec, tokenizer_json, world_tokenizer};
pub use world::{
    COMPLIANCE_FIRST_WORDS, Combination, Kind, PROMPT_FORMS, REFUSAL_FIRST_WORDS, Sample, Task,
    Verdict, alignment_set, benign_test, exact_match, facts, harmful_test, judge, pretraining_set,
    task_test, user_set, vocabulary,
};
