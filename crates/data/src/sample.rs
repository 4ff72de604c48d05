//! A sample as text: a prompt and its answer.

use serde::{Deserialize, Serialize};

/// The speaker of a turn.
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
    /// The speaker.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// A prompt before a template is applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// An instruction with an input, which may be empty.
    Instruction {
        /// The instruction.
        instruction: String,
        /// The input; often empty.
        input: String,
    },
    /// A conversation, without the turn that is the answer.
    Messages(Vec<Message>),
    /// No prompt: plain text, all of which is trained on.
    Nothing,
}

/// A prompt with the answer that is trained on or expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt.
    pub ask: Ask,
    /// The answer.
    pub answer: String,
}

impl Ask {
    /// An instruction without input.
    pub fn instruction(text: impl Into<String>) -> Self {
        Self::Instruction { instruction: text.into(), input: String::new() }
    }

    /// The user's text, for judges, records and the data report.
    ///
    /// It is the instruction and its input, or the user's last turn.
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
