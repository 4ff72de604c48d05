//! Schemas: the meaning of columns, which converts a row to a [`Sample`](crate::Sample).

mod classes;
mod convert;
mod detect;
mod turns;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use convert::FINAL_ANSWER;
pub(crate) use detect::{Plan, found, unknown_keys};

use vxf_core::metric::Grader;

use crate::grade;

/// The schema of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schema {
    /// `messages`: turns with `role` and `content`, or `from` and `value`. The last turn of the assistant is the answer;
    /// earlier turns are the prompt, later turns are dropped.
    Messages,
    /// `prompt` with `completion`, `response` or `answer`, as texts or as turns. A column `chosen` of
    /// preference pairs has to be named in `columns`.
    PromptCompletion,
    /// `instruction` and `output`; `input`, `system` and `history` (pairs of texts) may be missing.
    Alpaca,
    /// `conversations` or `conversation`: turns, in the same spellings.
    Sharegpt,
    /// `text`, all of which is trained on.
    Text,
    /// `sentence` and `label` (0 negative, 1 positive), with the instruction of the Vaccine code.
    Sst2,
    /// `text` and `label` (0 to 3), with the instruction of the Vaccine code.
    Agnews,
    /// `question` and `answer`, whose `####` becomes `The final answer is: ` as in the Vaccine code.
    Gsm8k,
    /// RepNoise's `beavertails_with_refusals_train.json`: a column `refusal` with "Question: ..", a
    /// new line and "Answer: ..". With another column, such as { completion = "response" }, that
    /// column is the answer to `prompt`.
    Refusals,
}

/// A column of a schema.
pub(crate) struct Field {
    /// Its name in `columns`.
    pub(crate) name: &'static str,
    /// Its usual names in files.
    pub(crate) usual: &'static [&'static str],
    pub(crate) need: Need,
}

/// Whether a column is required.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Always,
    /// In training sets.
    Answer,
    Never,
}

macro_rules! fields {
    ($($name:literal $usual:tt $need:ident),+) => {
        &[$(Field { name: $name, usual: &$usual, need: Need::$need }),+]
    };
}

impl Schema {
    /// All schemas, in the order of detection.
    pub const ALL: [Self; 9] = [
        Self::Messages,
        Self::PromptCompletion,
        Self::Alpaca,
        Self::Sharegpt,
        Self::Text,
        Self::Sst2,
        Self::Agnews,
        Self::Gsm8k,
        Self::Refusals,
    ];

    /// Its name in settings and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt_completion",
            Self::Alpaca => "alpaca",
            Self::Sharegpt => "sharegpt",
            Self::Text => "text",
            Self::Sst2 => "sst2",
            Self::Agnews => "agnews",
            Self::Gsm8k => "gsm8k",
            Self::Refusals => "refusals",
        }
    }

    /// The grader of answers, for tasks that have one.
    #[must_use]
    pub fn grader(self) -> Option<Grader> {
        match self {
            Self::Sst2 => Some(grade::sst2),
            Self::Agnews => Some(grade::agnews),
            Self::Gsm8k => Some(grade::gsm8k),
            _ => None,
        }
    }

    /// The columns of the schema.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Messages => fields!("messages" ["messages"] Always, "system" ["system"] Never),
            Self::PromptCompletion => fields!(
                "prompt" ["prompt"] Always,
                "completion" ["completion", "response", "answer"] Answer
            ),
            Self::Alpaca => fields!(
                "instruction" ["instruction"] Always,
                "input" ["input"] Never,
                "output" ["output"] Answer,
                "system" ["system"] Never,
                "history" ["history"] Never
            ),
            Self::Sharegpt => {
                fields!(
                    "conversations" ["conversations", "conversation"] Always,
                    "system" ["system"] Never
                )
            }
            Self::Text => fields!("text" ["text"] Always),
            Self::Sst2 => fields!("sentence" ["sentence"] Always, "label" ["label"] Always),
            Self::Agnews => fields!("text" ["text"] Always, "label" ["label"] Always),
            Self::Gsm8k => fields!("question" ["question"] Always, "answer" ["answer"] Answer),
            Self::Refusals => {
                fields!("completion" ["refusal"] Always, "prompt" ["prompt"] Never)
            }
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A schema, or its detection from the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SchemaChoice {
    /// Detected from the columns of the first row.
    #[default]
    Auto,
    /// The named schema.
    Named(Schema),
}

impl fmt::Display for SchemaChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Named(schema) => schema.fmt(f),
        }
    }
}

impl FromStr for SchemaChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let found = Schema::ALL.into_iter().find(|schema| schema.name() == name);
        found.map(Self::Named).ok_or_else(|| {
            format!(
                "there is no schema `{name}`; known are auto, {}",
                Schema::ALL.map(Schema::name).join(", ")
            )
        })
    }
}

impl TryFrom<String> for SchemaChoice {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<SchemaChoice> for String {
    fn from(choice: SchemaChoice) -> Self {
        choice.to_string()
    }
}
