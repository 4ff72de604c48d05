//! Reads and writes models in the Hugging Face layout and adapters in PEFT's.
//!
//! A [`Checkpoint`] is a directory of weights plus any number of merged changes, a [`Family`] loads a
//! backbone from one, an [`Outline`] is the shape that a configuration implies before any weight is
//! read, [`peft`] reads and writes adapters.

pub mod checkpoint;
pub mod family;
pub mod gguf;
pub mod peft;

pub use checkpoint::{Checkpoint, Format};
pub use family::{
    BackboneEntry, Family, Outline, backbones, load_backbone, load_directory, outline,
};
pub use peft::Adapter;
pub use vxf_untrusted::Account;
