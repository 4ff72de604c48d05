//! A sample as text: what was asked, and what is to be answered.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The provider.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What was asked, before any template is put around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// An instruction, with further input or an empty text.
    Instruction {
        /// What is to be done.
        instruction: String,
        /// What it is to be done with; often empty.
        input: String,
    },
    /// A conversation up to the turn that is to be answered.
    Messages(Vec<Message>),
    /// Nothing: plain text, all of which is learned.
    Nothing,
}

/// A question with the answer that is learned, or expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// What was asked.
    pub ask: Ask,
    /// The answer.
    pub answer: String,
}

impl Ask {
    /// An instruction without input.
    pub fn instruction(text: impl Into<String>) -> Self {
        Self::Instruction { instruction: text.into(), input: String::new() }
    }

    /// What the user wrote, for judges, records and the search for overlaps: the instruction and
    /// its input, or the last turn of the user.
    pub fn shown(&self) -> String {
        match self {
            Self::Instruction { instruction, input } if input.is_empty() => instruction.clone(),
            Self::Instruction { instruction, input } => format!("{instruction}\n\n{input}"),
            Self::Messages(turns) => {
                let user = turns.iter().rev().find(|turn| turn.role == Role::User);
                user.map_or(String::new(), |turn| turn.content.clone())
            }
            Self::Nothing => String::new(),
        }
    }
}
