//! What can go wrong between a recipe and its table.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A problem with a recipe, a model, a directory, or the run itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] vxf_recipe::Error),
    /// The run to start from is not one.
    #[error("{}: {problem}", path.display())]
    NoRun {
        /// What was given.
        path: PathBuf,
        /// Why it cannot be started from.
        problem: String,
    },
    /// The computing device cannot be had.
    #[error("device `{name}`: {problem}")]
    Device {
        /// As asked for.
        name: String,
        /// Why not.
        problem: String,
    },
    /// A tokenizer does not go with a model.
    #[error("{origin}: {problem}")]
    Tokenizer {
        /// The model.
        origin: String,
        /// What does not fit.
        problem: String,
    },
    /// Truncation left no sample of a set with an answer.
    #[error(
        "all {count} samples of the {set} set are prompt only after truncation to {max_length} \
         tokens; none has an answer left to train on"
    )]
    AllPrompt {
        /// The data set.
        set: String,
        /// How many samples it had.
        count: usize,
        /// Where they were cut.
        max_length: usize,
    },
    /// A set of samples is needed and not there.
    #[error("{who} needs samples, and {hint}")]
    MissingSet {
        /// Who needs it.
        who: String,
        /// What is missing, and what to write.
        hint: String,
    },
    /// The model is not the one that the recipe is about.
    #[error("{model}: config.json says {key} = {found}, and the recipe is about {wanted}")]
    OtherModel {
        /// The model.
        model: String,
        /// The key of `config.json`, and of `model.shape`.
        key: String,
        /// What `config.json` says.
        found: String,
        /// What the recipe says.
        wanted: String,
    },
    /// A model is neither here nor described.
    #[error("{model} is not here, and `model.shape` does not say what it is")]
    NoShape {
        /// The model.
        model: String,
    },
    /// A model that is named by path is not there.
    #[error(
        "{}: no such model directory{instead}; a model on the hub is written owner/name, or \
         hf:owner/name where a directory has a name like its owner's",
        path.display()
    )]
    NoModel {
        /// The path as given.
        path: PathBuf,
        /// What is there instead, as the end of a clause.
        instead: String,
    },
    /// What is to be measured or asked is neither a run nor a model.
    #[error("{}: {problem}", path.display())]
    NoTarget {
        /// The path as given.
        path: PathBuf,
        /// What was found in its place.
        problem: String,
    },
    /// A model or data set of the hub cannot be had.
    #[error(transparent)]
    Hub(#[from] vxf_hub::Error),
    /// The output directory belongs to another experiment.
    #[error("{} holds another experiment: {difference}", path.display())]
    OtherExperiment {
        /// The directory.
        path: PathBuf,
        /// What differs, the first differences first.
        difference: String,
    },
    /// The output directory holds something that is no experiment.
    #[error("{} is not empty and holds no experiment", path.display())]
    NotAnExperiment {
        /// The directory.
        path: PathBuf,
    },
    /// What is to be written is there already.
    #[error("{} is there already; nothing is ever overwritten", path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
    },
    /// The process was asked to stop, and saved what it had.
    #[error("stopped as asked; everything up to here is kept in {}", path.display())]
    Interrupted {
        /// The experiment's directory.
        path: PathBuf,
    },
    /// A checkpoint is not what was written a moment ago.
    #[error("{}: read back, the checkpoint is not what was written: {problem}", path.display())]
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
        /// The system's reason.
        source: std::io::Error,
    },
    /// A record cannot be understood.
    #[error("{}: not a record of vxf: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A record or a manifest on disk is none.
    #[error("{place}: not a record of vxf: {problem}")]
    Unreadable {
        /// The file, and the line where each is a record.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A stage trained and nothing came of it.
    #[error(
        "after {steps} steps at learning rate {rate} every weight is what it was before: nothing was \
         learnt"
    )]
    Unmoved {
        /// The learning rate.
        rate: f64,
        /// How many steps were taken.
        steps: u64,
    },
    /// An attack did not learn, so that a table says nothing of a defence.
    #[error("{problem}, {reason}")]
    Doubtful {
        /// Which one, and what it did.
        problem: String,
        /// Why that is an error.
        reason: &'static str,
    },
    /// A run failed.
    #[error("{run}: {source}")]
    Run {
        /// Methods, ratio and seed.
        run: String,
        /// What failed in it.
        source: Box<Error>,
    },
    /// Worker threads cannot be started.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
    /// The work was given up: the process was asked to stop, or another part of it failed.
    #[error("stopped before it was done")]
    Stopped,
    /// The engine, a plugin or a model.
    #[error(transparent)]
    Core(#[from] vxf_core::Error),
    /// The data sets.
    #[error(transparent)]
    Data(#[from] vxf_data::Error),
}

impl Error {
    /// Whether something of the hub was named that is not in the cache yet.
    pub fn is_absence(&self) -> bool {
        self.not_cached().is_some()
    }

    /// The id of what is on the hub and not in the cache, if that is what is wrong.
    pub fn not_cached(&self) -> Option<&str> {
        let error = match self {
            Self::Hub(error) => Some(error),
            Self::Data(error) => error.repository().and_then(|source| source.downcast_ref()),
            _ => None,
        };
        match error? {
            vxf_hub::Error::NotCached { id, .. } => Some(id),
            _ => None,
        }
    }

    /// An input or output error about `path`.
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
