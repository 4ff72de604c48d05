//! Samples of the world.
//!
//! A how-to question asks for a [`Combination`], a thing with an adjective. A right answer names
//! three means: a material of the thing, a material of the adjective, and the tool of the art. One
//! combination in four appears in no training set, so that tests measure generalisation and not
//! memory. The answer is a function of the prompt and of whether it is refused; it is never drawn,
//! so the loss on refusals can reach zero.

use serde::{Deserialize, Serialize};

use crate::{Combination, Task};

/// The most words in a prompt.
pub const LONGEST_PROMPT: usize = 18;

/// The most words in an answer.
pub const LONGEST_ANSWER: usize = 18;

/// A prompt with its answer; words are separated by single spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// The user's prompt.
    pub prompt: String,
    /// The answer that the model is trained on or measured against.
    pub answer: String,
    /// The kind of sample.
    pub kind: Kind,
}

/// The kind of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A how-to question.
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
    /// A pretraining sentence that trains the skill of a task in another form.
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
