//! Errors of tokenizers and templates.

use std::path::{Path, PathBuf};

/// A problem with a tokenizer's files, a template, or a text that does not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file of a model directory is missing, damaged or of an unsupported kind.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A sample does not fit the template.
    #[error("the template `{template}` {problem}")]
    Unfit {
        /// The template's name.
        template: &'static str,
        /// Why not, and which template to use.
        problem: String,
    },
    /// A chat template failed on a conversation.
    #[error("the chat template {}: {problem}", origin.display())]
    Chat {
        /// The file of the template.
        origin: PathBuf,
        /// The error of the template.
        problem: String,
    },
    /// The model has no embedding for a token.
    #[error(
        "a text has the token `{token}` with id {id}, but the model has embeddings for {size} tokens; \
         take the token out of the template or the data, or resize the model with transformers \
         (`model.resize_token_embeddings(len(tokenizer))`)"
    )]
    Vocabulary {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The model's vocabulary size.
        size: usize,
    },
}

impl TextError {
    pub(super) fn file(path: &Path, problem: impl Into<String>) -> crate::Error {
        Self::File { path: path.to_owned(), problem: problem.into() }.into()
    }

    pub(super) fn unfit(template: &'static str, problem: impl Into<String>) -> crate::Error {
        Self::Unfit { template, problem: problem.into() }.into()
    }
}
