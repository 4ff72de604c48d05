//! Many runs: the attacks of a durability test, a search over settings, and the processes that share the work.
//!
//! [`durability`] and [`search`] make experiments and choose among their results; [`workers`] executes the
//! runs of an experiment in several processes, on this machine or through a batch system.

pub mod durability;
mod error;
mod pipelines;
pub mod search;
pub mod workers;

pub use error::{Error, Result};
