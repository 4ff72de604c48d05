//! Carrying out the runs of an experiment.

pub mod control;
pub mod experiment;
pub mod progress;
mod queue;
mod run;
pub mod stage;
mod start;

pub use control::{Control, Every};
pub use experiment::{Finished, Prepared};
pub use progress::{Progress, Silent};
