//! Qwen2 and Qwen3.

use super::fields::{Fields, Read};
use super::layer_types;
use super::llama::{self, Defaults};
use crate::design::{Biases, Design};

const DEFAULTS: Defaults =
    Defaults { family: "qwen2", kv_heads: Some(32), head_width: None, positions: 32_768 };

/// Reads the configuration of a Qwen2.
pub(super) fn second(fields: Fields<'_>) -> Read<Design> {
    let design = llama::like(fields, &DEFAULTS)?;
    Ok(Design {
        biases: Biases { query_key_value: true, ..design.biases },
        windows: windows(fields, design.windows.len())?,
        ..design
    })
}

/// Reads the configuration of a Qwen3.
pub(super) fn third(fields: Fields<'_>) -> Read<Design> {
    let bias = fields.flag_or("attention_bias", false)?;
    let defaults = Defaults { family: "qwen3", head_width: Some(128), ..DEFAULTS };
    let design = llama::like(fields, &defaults)?;
    Ok(Design {
        query_key_norm: true,
        biases: Biases { query_key_value: bias, output: bias, ..design.biases },
        windows: windows(fields, design.windows.len())?,
        ..design
    })
}

/// The window of each layer: from `layer_types`, or the same for all layers from
/// `max_window_layers`.
fn windows(fields: Fields<'_>, layers: usize) -> Read<Vec<Option<usize>>> {
    let window = fields.optional_size("sliding_window", Some(4096))?;
    let window = if fields.flag_or("use_sliding_window", false)? { window } else { None };
    if let Some(windows) = layer_types::windows(fields, layers, window)? {
        return Ok(windows);
    }
    let full = fields.count_or("max_window_layers", 28)?;
    Ok((0..layers).map(|layer| window.filter(|_| layer >= full)).collect())
}
