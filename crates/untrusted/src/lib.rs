//! Bounded reads and header validation for untrusted input.
//!
//! Model, tokenizer and data files come from strangers. Whatever size a file claims is checked
//! against its real size before any reader allocates for it. [`text`], [`bytes`] and [`json`] are
//! bounded reads; [`safetensors`] and [`pickle`] validate weight files, [`parquet`] validates data
//! files, [`tokenizer`] limits how far a tokenizer may expand a text, and [`content_digest`] identifies a
//! file by its content. An [`Account`] reports the keys of a file that no reader asked for.

mod account;
mod digest;
pub mod gguf;
mod lfs;
pub mod parquet;
pub mod pickle;
mod read;
pub mod safetensors;
pub mod tokenizer;

pub use account::{Account, is_off, not_used, some};
pub use digest::{ContentDigest, content_digest};
pub use lfs::{LFS_POINTER, is_lfs_pointer, no_lfs_pointer};
pub use read::*;
