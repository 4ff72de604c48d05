//! From a recipe's text to an experiment with every choice made.
//!
//! [`mod@file`] reads TOML into a [`Layer`] that knows the line of every key; flags make further layers;
//! [`resolve()`] fills in defaults and checks every rule that needs no model.

pub mod diff;
mod error;
pub mod file;
pub mod instead;
pub mod layer;
pub mod paths;
mod recipe;
mod resolve;
pub mod settings;
mod stage;

pub use error::{Error, Result};
pub use layer::{Layer, Place};
pub use recipe::{Chosen, Recipe, SCHEMA_VERSION, digest, label};
pub use resolve::{
    Axis, Experiment, Point, SECTIONS, SUGAR, StageSections, Worldly, baseline, default_metrics,
    default_metrics_of, resolve, world_defaults,
};
pub use stage::StageRecipe;
