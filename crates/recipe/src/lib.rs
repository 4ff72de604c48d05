//! From a recipe's text to an experiment with every choice made.
//!
//! [`file`] reads TOML into a [`Layer`] that knows the line of every key; flags make further layers;
//! [`resolve()`] fills in defaults and checks every rule that needs no model.

pub mod data_settings;
pub mod diff;
mod error;
pub mod file;
pub mod layer;
pub mod overlay;
mod recipe;
mod resolve;
pub mod settings;

pub use error::{Error, Result};
pub use layer::{Layer, Place};
pub use recipe::{Chosen, Data, Method, Recipe, digest, hex};
pub use resolve::{PAPER_METRICS, SECTIONS, method, resolve, with_own_perturber};
