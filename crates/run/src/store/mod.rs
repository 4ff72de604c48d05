//! An experiment on disk: its directory, runs, checkpoints and exports.

mod card;
pub mod checkpoints;
pub mod directory;
pub mod disk;
pub mod export;
pub(crate) mod files;
pub mod finished;
mod lock;
pub mod manifest;
pub mod prune;
mod same_experiment;
pub(crate) mod step_log;
pub mod stored;
pub mod weights;

pub use directory::Directory;
pub use finished::Run;
pub use manifest::Manifest;
pub use stored::Stored;
