//! From a recipe to an experiment directory.
//!
//! A [`recipe::Recipe`] fixes an experiment; [`plan::Plan`] says which cells it consists of; a
//! cell is one defence, one harmful ratio and one seed. [`experiment::Prepared::run`] computes the cells that
//! an experiment's directory does not hold yet, and everything that is printed afterwards is
//! rendered from their records.

pub mod access;
mod chain;
mod check;
pub mod checkpoints;
pub mod control;
mod cost;
pub mod data_settings;
pub mod dataset;
pub mod detail;
pub mod device;
pub mod diff;
pub mod directory;
pub mod disk;
mod error;
pub mod estimate;
pub mod evaluate;
pub mod experiment;
pub mod export;
mod failures;
pub mod finished;
pub mod from;
pub mod generate;
pub mod grid;
pub mod health;
mod instead;
mod kept_answers;
pub mod layer;
pub mod manifest;
pub mod measure;
pub mod model;
pub mod notes;
pub mod overlay;
pub mod paths;
pub mod plan;
pub mod progress;
mod queue;
pub mod recipe;
pub mod recipe_file;
pub mod record;
pub mod report;
pub mod resolve;
pub mod samples;
pub mod sampling;
pub mod settings;
pub mod stage;
pub mod statistics;
mod step_log;
mod stored_answers;
pub mod table;
mod trust;

pub use error::{Error, Result};
pub use failures::{Failure, Failures};
