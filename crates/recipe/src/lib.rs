//! From the text of a recipe to a fully resolved experiment.
//!
//! [`mod@file`] parses TOML into a [`Layer`] that knows the line of every key; flags make further layers;
//! [`resolve()`] fills in defaults and checks all rules that need no model.

pub mod diff;
mod error;
pub mod file;
mod foreign;
pub mod instead;
pub mod layer;
pub mod paths;
mod recipe;
pub mod reference;
mod resolve;
pub mod schema;
pub mod settings;
mod stage;

pub use error::{Error, Result};
pub use layer::{Layer, Place};
pub use recipe::{Chosen, Recipe, SCHEMA_VERSION, digest, label};
pub use resolve::{
    Axis, Experiment, Point, SECTIONS, USUAL, UsualStage, Worldly, baseline, default_metrics,
    default_metrics_of, resolve, world_defaults,
};
pub use stage::StageRecipe;
