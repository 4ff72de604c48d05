//! Mistral.

use super::fields::{Fields, Read};
use super::layer_types;
use super::llama::{self, Defaults};
use crate::design::Design;

/// Reads the configuration of a Mistral. A missing window is 4096 keys, null is no window.
/// `layer_types` may exempt layers from it, as in Ministral.
pub(super) fn design(fields: Fields<'_>) -> Read<Design> {
    let window = fields.optional_size("sliding_window", Some(4096))?;
    let defaults =
        Defaults { family: "mistral", kv_heads: Some(8), head_width: None, positions: 32 * 4096 };
    let design = llama::like(fields, &defaults)?;
    let layers = design.windows.len();
    let windows = layer_types::windows(fields, layers, window)?;
    Ok(Design { windows: windows.unwrap_or_else(|| vec![window; layers]), ..design })
}
