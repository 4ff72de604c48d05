//! Models in the Hugging Face layout and adapters in PEFT's, in and out.
//!
//! A [`Checkpoint`] is a directory of weights under any number of merged changes, a [`Family`] the
//! code that makes a backbone of one, an [`Outline`] what a configuration implies before any weight
//! is read, [`peft`] the layout of adapters.

pub mod checkpoint;
pub mod family;
pub mod peft;

pub use checkpoint::{Checkpoint, Format};
pub use family::{
    BackboneEntry, Family, Outline, backbones, load_backbone, load_directory, outline,
};
