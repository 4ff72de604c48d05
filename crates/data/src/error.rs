//! Errors of this crate.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error about data, text or a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No user task has this name.
    #[error("unknown task `{0}`; known tasks: sst2, agnews, gsm8k")]
    UnknownTask(String),
    /// The text is not an adjective and a thing of the embedded world.
    #[error("`{0}` is not an adjective and a thing of the world, such as `silver loaf`")]
    UnknownCombination(String),
    /// A share is not between 0 and 1.
    #[error("{name} must lie between 0 and 1, not {value}")]
    Share {
        /// The name of the share.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The tokenizer cannot represent a word. Sample text is never printed, so the surrounding text is
    /// not shown.
    #[error("the tokenizer does not know the word `{word}`")]
    UnknownWord {
        /// The word.
        word: String,
        /// The text that contains it.
        text: String,
    },
    /// A prompt or an answer contains a special token, which would end or restart the sequence.
    #[error("a text must not contain the special token `{token}`")]
    SpecialInText {
        /// The special token.
        token: &'static str,
        /// The text that contains it.
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
        /// The error of the tokenizer library.
        source: tokenizers::Error,
    },
    /// The tokenizer library failed otherwise.
    #[error("tokenizer: {0}")]
    Tokenizer(tokenizers::Error),
    /// A data file cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A data file or directory does not exist.
    #[error("{}: there is no such file or directory{instead}", path.display())]
    NoFile {
        /// Its path.
        path: PathBuf,
        /// What exists instead, as the end of the sentence; may be empty.
        instead: String,
    },
    /// A row is invalid.
    #[error("{place}: {problem}; `skip_bad_rows` skips invalid rows and counts them")]
    Row {
        /// File and line, or file and row.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A data set lacks something that was requested.
    #[error("{path}: {problem}")]
    Source {
        /// Its path, as it was written.
        path: String,
        /// What it lacks, and what it has.
        problem: String,
    },
    /// A setting of a data set breaks a rule.
    #[error(transparent)]
    Setting(vxf_core::ConfigError),
    /// A set has fewer samples than a mix needs.
    #[error(
        "data.{name} has {found} samples, but the mix needs {wanted}; give it more, or lower \
         data.user_samples"
    )]
    TooFew {
        /// The set.
        name: &'static str,
        /// The number needed.
        wanted: usize,
        /// The number available.
        found: usize,
    },
    /// One of the user's data sets cannot be read.
    #[error("data.{part}: {source}")]
    Part {
        /// The key in the section `data`.
        part: &'static str,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A data set from a repository cannot be read.
    #[error(transparent)]
    Repository(Box<dyn std::error::Error + Send + Sync>),
    /// Text cannot be converted to tokens or back.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
}

impl Error {
    /// The error of a repository, if it is one.
    pub fn repository(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        match self {
            Self::Repository(source) => Some(&**source),
            Self::Part { source, .. } => source.repository(),
            _ => None,
        }
    }

    /// Whether a named file or data set is missing rather than broken.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NoFile { .. } => true,
            Self::Part { source, .. } => source.is_absence(),
            _ => false,
        }
    }
}
