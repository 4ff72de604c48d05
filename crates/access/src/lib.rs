//! Opens models and data: by path or hub id, on a device that is chosen by name.
//!
//! [`Access`] finds files and downloads them, [`Base`] is a base model with its tokenizer, and
//! [`device`](mod@device) lists and opens devices.

mod access;
pub mod device;
mod error;
mod model;
mod permissions;

pub use access::{Access, check_target};
pub use error::{Error, Result};
pub use model::{Base, ModelDigests, directory_digest, file_digest};
