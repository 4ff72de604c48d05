//! The embedded world's base model, and how it is made.
//!
//! A Llama of about a quarter of a million weights, pretrained on the world's instructions so
//! that it complies with nearly everything: the model that alignment starts from.

mod pretrain;

pub use pretrain::{Pretraining, pretrain};

/// `config.json` of the base model.
pub const CONFIG: &str = include_str!("../assets/config.json");
