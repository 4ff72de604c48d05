//! Errors of opening models and data.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A problem with a device, a model, or a place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The computing device is not available.
    #[error("device `{name}`: {problem}")]
    Device {
        /// The requested name.
        name: String,
        /// The reason.
        problem: String,
    },
    /// The model does not match the recipe's `model.shape`.
    #[error("{model}: config.json says {key} = {found}, and the recipe expects {wanted}")]
    OtherModel {
        /// The model.
        model: String,
        /// The key of `config.json`, and of `model.shape`.
        key: String,
        /// The value in `config.json`.
        found: String,
        /// The value in the recipe.
        wanted: String,
    },
    /// The model directory does not exist.
    #[error(
        "{}: no such model directory{instead}; a model on the hub is written owner/name, or \
         hf:owner/name if a directory has the owner's name",
        path.display()
    )]
    NoModel {
        /// The given path.
        path: PathBuf,
        /// What was found instead, as the end of a sentence.
        instead: String,
    },
    /// The target is neither a run nor a model.
    #[error("{}: {problem}", path.display())]
    NoTarget {
        /// The given path.
        path: PathBuf,
        /// What was found there.
        problem: String,
    },
    /// A model or data set on the hub is not available.
    #[error(transparent)]
    Hub(#[from] vxf_hub::Error),
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write` or `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// An error of the engine, a plugin or a model.
    #[error(transparent)]
    Core(#[from] vxf_core::Error),
    /// An error in the data.
    #[error(transparent)]
    Data(#[from] vxf_data::Error),
}

impl Error {
    /// Creates an I/O error for `path`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Core(error.into())
    }
}
