//! Executes the runs of an experiment.

pub mod control;
pub mod experiment;
mod follow;
mod measured;
mod prepared;
pub mod progress;
mod queue;
mod reuse;
mod run;
pub mod stage;
mod start;
pub mod task;

pub use control::{Control, Every};
pub use experiment::Finished;
pub use prepared::Prepared;
pub use progress::{Doing, Phase, Progress, Silent};
pub use task::{Pending, Task};
