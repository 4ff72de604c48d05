//! Mistral.

use super::fields::{Fields, Read};
use super::llama::{self, Defaults};
use crate::design::Design;

/// Reads the configuration of a Mistral. A missing window is 4096 keys, null is no window.
pub(super) fn design(fields: Fields<'_>) -> Read<Design> {
    let window = fields.optional_size("sliding_window", Some(4096))?;
    let defaults =
        Defaults { family: "mistral", kv_heads: Some(8), head_width: None, positions: 32 * 4096 };
    let design = llama::like(fields, &defaults)?;
    Ok(Design { windows: vec![window; design.windows.len()], ..design })
}
