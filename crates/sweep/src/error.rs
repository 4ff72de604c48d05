//! Errors of sweeps.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A problem with a family of experiments, or with the processes that execute one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A problem with the recipe, the model or a run.
    #[error(transparent)]
    Run(#[from] vxf_run::Error),
    /// Attacks need a pipeline with exactly one stage of a user.
    #[error("the recipe has {found} stages of a user, and attacks take the place of one")]
    NotOneUser {
        /// How many it has.
        found: usize,
    },
    /// The space of a search is too small.
    #[error("the space has {found} candidates that differ in training, and the budget is {wanted}")]
    SmallSpace {
        /// How many were found, the recipe itself among them.
        found: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// A worker process could not do its run.
    #[error("{run}: {problem}")]
    Worker {
        /// The run, by its path within the experiment.
        run: String,
        /// What its worker printed.
        log: PathBuf,
        /// Its last error.
        problem: String,
    },
    /// The command of a batch system failed.
    #[error("{command}: {problem}")]
    Engine {
        /// The program.
        command: String,
        /// What it said.
        problem: String,
    },
}

impl From<vxf_recipe::Error> for Error {
    fn from(error: vxf_recipe::Error) -> Self {
        Self::Run(error.into())
    }
}

/// An I/O error for `path`.
pub(crate) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| vxf_run::Error::Io { action, path, source }.into()
}
