//! From a recipe to an experiment's directory: the graph of its runs, carried out, stored, measured.
//!
//! [`plan::Graph`] says which runs an experiment consists of, [`execute::Prepared`] carries out those
//! that its directory does not hold yet, [`store`] is what lies on disk, [`measure`] what models are
//! measured on and by. A run is one stage carried out once, whichever stage it is.

pub mod access;
pub mod device;
pub mod diff;
mod error;
pub mod execute;
pub mod from;
pub mod measure;
pub mod model;
pub mod notes;
pub mod plan;
pub mod store;
mod trust;
pub mod verify;

pub use access::Access;
pub use error::{Error, Result};
pub use execute::{Control, Every, Finished, Prepared, Progress};
pub use measure::evaluate::{Evaluation, Evaluator};
pub use plan::{Graph, estimate::Prospect};
pub use store::{Directory, Run};
