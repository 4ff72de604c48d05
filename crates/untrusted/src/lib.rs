//! Bounded reads and header validation for untrusted input.
//!
//! Model, tokenizer and data files come from strangers. Whatever size a file claims is checked
//! against its real size before any reader allocates for it. [`text`], [`bytes`] and [`json`] are
//! bounded reads; [`safetensors`] and [`pickle`] validate weight files, [`parquet`] validates data
//! files, [`tokenizer`] limits how far a tokenizer may expand a text, and [`content_digest`] identifies a
//! file by its content.

mod digest;
pub mod parquet;
pub mod pickle;
mod read;
pub mod safetensors;
pub mod tokenizer;

pub use digest::{ContentDigest, content_digest};
pub use read::*;
