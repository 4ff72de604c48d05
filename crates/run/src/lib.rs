//! From a recipe to an experiment directory: plan the graph of runs, execute it, store and measure the
//! runs.
//!
//! [`plan::Graph`] lists the runs of an experiment, [`execute::Prepared`] executes those that its
//! directory does not have yet, [`store`] is the layout on disk, and [`measure`] evaluates models. A run
//! is one stage carried out once.

pub mod access;
pub mod device;
pub mod diff;
pub mod durability;
mod error;
pub mod execute;
pub mod from;
pub mod measure;
pub mod model;
pub mod notes;
mod permissions;
pub mod plan;
pub mod search;
pub mod store;
pub mod verify;
pub mod workers;

pub use access::Access;
pub use error::{Error, Result};
pub use execute::{Control, Every, Finished, Pending, Prepared, Progress, Task};
pub use measure::evaluate::{Evaluation, Evaluator};
pub use plan::{Graph, estimate::Estimate};
pub use store::{Directory, Run, Stored};
