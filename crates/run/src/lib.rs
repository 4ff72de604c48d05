//! From a recipe to an experiment directory.
//!
//! A [`recipe::Recipe`] fixes an experiment; [`plan::Plan`] says which cells it consists of; a
//! cell is one defence, one harmful ratio and one seed. [`experiment::run`] computes the cells that
//! an experiment's directory does not hold yet, and everything that is printed afterwards is
//! rendered from their records.

pub mod dataset;
mod error;
pub mod layer;
pub mod model;
pub mod overlay;
pub mod plan;
pub mod recipe;
pub mod recipe_file;
pub mod resolve;
pub mod settings;

pub use error::{Error, Result};
