//! What can go wrong in this crate.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// A problem with data, text or a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No user task has this name.
    #[error("unknown task `{0}`; known tasks: sst2, agnews, gsm8k")]
    UnknownTask(String),
    /// The text does not name a thing of the world with its adjective.
    #[error("`{0}` is not an adjective and a thing of the world, such as `silver loaf`")]
    UnknownCombination(String),
    /// A share is not a number from 0 to 1.
    #[error("{name} must lie between 0 and 1, not {value}")]
    Share {
        /// Which share.
        name: &'static str,
        /// The value that was given.
        value: f64,
    },
    /// The tokenizer cannot represent a word.
    #[error("the tokenizer does not know the word `{word}` (in `{text}`)")]
    UnknownWord {
        /// The word.
        word: String,
        /// The text that holds it.
        text: String,
    },
    /// A prompt or an answer holds a special token, which would end or restart the sequence.
    #[error("the special token `{token}` may not occur inside a text (in `{text}`)")]
    SpecialInText {
        /// The special token.
        token: &'static str,
        /// The text that holds it.
        text: String,
    },
    /// The tokenizer lacks special tokens that the sequence format needs.
    #[error("the tokenizer lacks the special tokens {}", .0.join(" "))]
    MissingSpecials(Vec<&'static str>),
    /// A tokenizer file could not be read.
    #[error("cannot read the tokenizer {}: {source}", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What the tokenizer library said.
        source: tokenizers::Error,
    },
    /// The tokenizer library failed otherwise.
    #[error("tokenizer: {0}")]
    Tokenizer(tokenizers::Error),
}
