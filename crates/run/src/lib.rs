//! From a recipe to an experiment directory: plan the graph of runs, execute it, store and measure the
//! runs.
//!
//! [`plan::Graph`] lists the runs of an experiment, [`execute::Prepared`] executes those that its
//! directory does not have yet, [`store`] is the layout on disk, and [`measure`] evaluates models. A run
//! is one stage carried out once.

pub mod diff;
mod error;
pub mod execute;
pub mod from;
pub mod measure;
pub mod notes;
pub mod plan;
pub mod store;
pub mod verify;

pub use error::{Error, Result};
pub use execute::{Control, Every, Finished, Pending, Prepared, Progress, Task};
pub use measure::evaluate::{Evaluation, Evaluator};
pub use plan::{Graph, estimate::Estimate};
pub use store::{Directory, Run, Stored};
