//! The embedded world: an invented language with data sets, judge, tokenizer and base model.
//!
//! Nothing in it is harmful or about the real world. Some imaginary arts are forbidden ("closed"),
//! and a model is trained to refuse them; others are ordinary crafts ("open"). With these one can
//! study how further training removes refusals, without any dangerous text.
//!
//! Functions such as [`alignment_set`] and [`user_set`] draw samples. Each takes the random
//! generator as an argument, so one seed gives one data set. [`judge()`] classifies an answer from
//! its text. [`base()`] is the model that alignment starts from.
//!
//! ```
//! use rand::SeedableRng;
//! use vxf_data::{Ask, Sample};
//! use vxf_world::{Task, Verdict, judge, user_set};
//!
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
//! let set = user_set(&mut rng, Task::Sst, 20, 0.1)?;
//! let harmful = set.iter().filter(|s| s.kind.is_closed()).collect::<Vec<_>>();
//! assert_eq!(harmful.len(), 2);
//! assert_eq!(judge(&harmful[0].prompt, &harmful[0].answer), Verdict::Compliance);
//!
//! let codec = vxf_world::codec()?;
//! let sample = Sample { ask: Ask::instruction(&set[0].prompt), answer: set[0].answer.clone() };
//! let example = codec.encode(&sample, usize::MAX)?.example;
//! assert_eq!(codec.decode(&example.tokens[example.prompt..])?, set[0].answer);
//! # Ok::<(), vxf_data::Error>(())
//! ```

mod base;
mod facts;
mod grammar;
mod judge;
mod sample;
mod sets;
mod source;
mod tasks;
mod tokenizer;
mod vocabulary;
mod words;

pub use base::{CONFIG, DIGEST, Pretraining, WEIGHTS, base, pretrain, save};
pub use facts::facts;
pub use grammar::{Combination, PROMPT_FORMS};
pub use judge::{
    COMPLIANCE_FIRST_WORDS, REFUSAL_FIRST_WORDS, Verdict, World, WorldConfig, exact_match, judge,
};
pub use sample::{Kind, LONGEST_ANSWER, LONGEST_PROMPT, Sample};
pub use sets::{
    alignment_set, benign_test, borderline_test, harmful_test, obliging_set, pretraining_set,
    simulated_attack, task_test, user_set,
};
pub use source::{Profile, WorldData};
pub use tasks::Task;
pub use tokenizer::{codec, tokenizer, tokenizer_files, tokenizer_json};
pub use vocabulary::vocabulary;
