//! From the text of a recipe to a fully resolved experiment.
//!
//! [`mod@file`] parses TOML into a [`Layer`] that knows the line of every key; flags make further layers;
//! [`resolve()`] fills in defaults and checks all rules that need no model.

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
    Axis, Experiment, PAPER_METRICS, Point, SECTIONS, USUAL, UsualStage, Worldly, baseline,
    resolve, world_defaults,
};
pub use stage::StageRecipe;
