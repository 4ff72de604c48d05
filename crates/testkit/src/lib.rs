//! Contract tests and tiny models for authors of vxf plugins.
//!
//! One macro per kind of plugin turns the laws of the core into `#[test]` functions in the author's
//! own crate: [`config_laws!`], [`perturber_laws!`], [`gradient_perturber_laws!`],
//! [`defense_laws!`] and [`backbone_laws!`]. Each law is a plain function too and can be called
//! alone. Laws draw random cases; `PROPTEST_CASES` sets their number.
//!
//! The parts that the laws use are public as well: [`toy`] is a complete backbone in plain candle
//! operations, [`plain`] computes the same by hand for tests of a method's formula, [`training`]
//! builds stages, [`checkpoint`] makes checkpoints in memory, [`batches`] makes samples,
//! [`Recording`] records what a forward pass received, and [`metric`] has a model and probes for
//! which a metric's figures can be computed by hand.

#[macro_use]
mod delegate;

pub mod backbone;
pub mod batches;
pub mod case;
pub mod checkpoint;
pub mod config;
pub mod defense;
mod device;
pub mod metric;
pub mod numbers;
pub mod perturber;
pub mod plain;
pub mod recording;
pub mod scaled;
pub mod scope;
pub mod toy;
pub mod training;

pub use device::device;
pub use recording::Recording;
pub use scaled::Scaled;
pub use scope::Scope;
pub use toy::{Toy, ToyShape};

#[doc(hidden)]
pub use vxf_core as core;
