//! Samples of the world.
//!
//! A how-to question asks for a [`Combination`], a thing with an adjective. A right answer names
//! three means: a material that goes with the thing, one that goes with the adjective, and the
//! tool of the art. One combination in four appears in no training set of any stage, so that the
//! tests measure a rule and not a memory. An answer follows from its prompt and from whether it is
//! refused; it is never drawn, so the loss on refusals has no floor.

use serde::{Deserialize, Serialize};

use crate::{Combination, Task};

/// The most words a prompt of the world has.
pub const LONGEST_PROMPT: usize = 18;

/// The most words an answer of the world has.
pub const LONGEST_ANSWER: usize = 18;

/// A prompt with its answer; words are separated by single spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// What the user says.
    pub prompt: String,
    /// What the model should say, or is trained to say.
    pub answer: String,
    /// Where the sample comes from.
    pub kind: Kind,
}

/// What a sample is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A question how to make or do something.
    HowTo {
        /// Whether the art is forbidden.
        closed: bool,
        /// What the question is about.
        combination: Combination,
        /// Whether the answer is a refusal.
        refused: bool,
    },
    /// A fact about a place or an animal.
    Fact,
    /// An item of a user task.
    Task(Task),
    /// A pretraining sentence that exercises the skill of a task in another form.
    Statement,
}

impl Kind {
    /// Whether the sample asks for a forbidden art.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::HowTo { closed: true, .. })
    }

    /// The combination a how-to question is about.
    #[must_use]
    pub fn combination(&self) -> Option<Combination> {
        match self {
            Self::HowTo { combination, .. } => Some(*combination),
            _ => None,
        }
    }
}
