//! Errors of preparing, executing and measuring runs.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A problem with a recipe, a model, a directory, or a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] vxf_recipe::Error),
    /// A model or data set cannot be opened.
    #[error(transparent)]
    Access(vxf_access::Error),
    /// The given path is not a usable run.
    #[error("{}: {problem}", path.display())]
    NoRun {
        /// The given path.
        path: PathBuf,
        /// Why it cannot be used.
        problem: String,
    },
    /// The tokenizer does not match the model.
    #[error("{origin}: {problem}")]
    Tokenizer {
        /// The model.
        origin: String,
        /// The mismatch.
        problem: String,
    },
    /// After truncation, no sample of a set has an answer left.
    #[error(
        "all {count} samples of the {set} set are prompt only after truncation to {max_length} \
         tokens; none has an answer left to train on"
    )]
    AllPrompt {
        /// The data set.
        set: String,
        /// How many samples it had.
        count: usize,
        /// The length limit in tokens.
        max_length: usize,
    },
    /// A required set of samples is missing.
    #[error("{who} needs samples, and {hint}")]
    MissingSet {
        /// The stage, method or metric that needs it.
        who: String,
        /// What is missing, and what to write in the recipe.
        hint: String,
    },
    /// The model is missing, and the recipe does not describe its shape.
    #[error("{model} is not available, and `model.shape` does not describe it")]
    NoShape {
        /// The model.
        model: String,
    },
    /// The output directory belongs to another experiment.
    #[error("{} holds another experiment: {difference}", path.display())]
    OtherExperiment {
        /// The directory.
        path: PathBuf,
        /// The first differences.
        difference: String,
    },
    /// The output directory is not empty and is not an experiment.
    #[error("{} is not empty and is not an experiment", path.display())]
    NotAnExperiment {
        /// The directory.
        path: PathBuf,
    },
    /// The output already exists.
    #[error("{} already exists; nothing is overwritten", path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
    },
    /// No single run of the experiment is meant.
    #[error("{digest:?}: {problem}")]
    NoTask {
        /// The given beginning of a digest.
        digest: String,
        /// Why it names no run.
        problem: String,
    },
    /// The process was asked to stop and saved its state.
    #[error("interrupted; everything so far is kept in {}", path.display())]
    Interrupted {
        /// The experiment's directory.
        path: PathBuf,
    },
    /// A checkpoint read back right after writing differs from what was written.
    #[error("{}: the checkpoint, read back, differs from what was written: {problem}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
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
    /// A record cannot be serialized.
    #[error("{}: not a record of vxf: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The error of the JSON library.
        source: serde_json::Error,
    },
    /// A file is not a valid record or manifest.
    #[error("{place}: not a record of vxf: {problem}")]
    Unreadable {
        /// The file, with the line in files of one record per line.
        place: String,
        /// The problem.
        problem: String,
    },
    /// A stage trained without changing any weight.
    #[error(
        "after {steps} steps at learning rate {rate} no weight has changed: nothing was learned"
    )]
    Unmoved {
        /// The learning rate.
        rate: f64,
        /// How many steps were taken.
        steps: u64,
    },
    /// The user's fine-tuning did not lower its loss, so the comparison says nothing about defences.
    #[error("{problem}, {reason}")]
    Doubtful {
        /// The run and its losses.
        problem: String,
        /// Why this is an error.
        reason: &'static str,
    },
    /// A run is in doubt, and no run may be.
    #[error("{doubt}, and `--strict` is set")]
    InDoubt {
        /// The run, and the reason.
        doubt: String,
    },
    /// A run failed.
    #[error("{run}: {source}")]
    Run {
        /// The run: methods, ratio and seed.
        run: String,
        /// The cause.
        source: Box<Error>,
    },
    /// Worker threads cannot be started.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
    /// The work was cancelled: the process was asked to stop, or another thread failed.
    #[error("stopped before it was done")]
    Stopped,
    /// An error of the engine, a plugin or a model.
    #[error(transparent)]
    Core(#[from] vxf_core::Error),
    /// An error in the data.
    #[error(transparent)]
    Data(#[from] vxf_data::Error),
}

impl Error {
    /// Whether a named model or data set is on the hub and not yet in the cache.
    pub fn is_absence(&self) -> bool {
        self.not_cached().is_some()
    }

    /// The hub id that is missing in the cache, if that is the problem.
    pub fn not_cached(&self) -> Option<&str> {
        let error = match self {
            Self::Access(vxf_access::Error::Hub(error)) => Some(error),
            Self::Data(error) => error.repository().and_then(|source| source.downcast_ref()),
            _ => None,
        };
        match error? {
            vxf_hub::Error::NotCached { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Creates an I/O error for `path`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl From<vxf_access::Error> for Error {
    fn from(error: vxf_access::Error) -> Self {
        match error {
            vxf_access::Error::Core(error) => Self::Core(error),
            vxf_access::Error::Data(error) => Self::Data(error),
            other => Self::Access(other),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Core(error.into())
    }
}
