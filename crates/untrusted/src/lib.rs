//! Bounded reads and header validation for untrusted input.
//!
//! Model, tokenizer and data files come from strangers. What a file claims about itself is checked
//! against its real size before any reader allocates for it: [`text`] and its kin bound plain reads, JSON and
//! text, [`safetensors`] and [`pickle`] check the headers of weight files, [`parquet`] those of data
//! files, [`tokenizer`] the size that a tokenizer grows to.

pub mod parquet;
pub mod pickle;
mod read;
pub mod safetensors;
pub mod tokenizer;

pub use read::*;
