//! Distributes the runs of an experiment over processes: workers on this machine, Slurm, or HyperQueue.
//!
//! All of them execute runs as tasks ([`Prepared::task`](vxf_run::Prepared::task)), so they give the same bits
//! as one process. What is done is read from the experiment's directory, never from an engine.

pub mod hyperqueue;
mod list;
mod local;
mod resources;
pub mod slurm;

pub use list::{TaskList, typed};
pub use local::{Local, Slot};
pub use resources::Resources;
