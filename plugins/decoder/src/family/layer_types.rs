//! Which layers see all keys, and which only a window of the last ones.

use serde_json::Value;

use super::fields::{Fields, Problem, Read, unsupported};

/// The window of each layer as `layer_types` says; none if the key is missing.
pub(super) fn windows(
    fields: Fields<'_>,
    layers: usize,
    window: Option<usize>,
) -> Read<Option<Vec<Option<usize>>>> {
    let Some(types) = fields.get("layer_types") else { return Ok(None) };
    let types = types.as_array().map_or(&[][..], Vec::as_slice);
    if types.len() != layers {
        let found = types.len();
        return Err(Problem::Broken(format!(
            "`layer_types` must name {layers} layers, got {found}"
        )));
    }
    let windows = types.iter().map(|kind| match kind.as_str() {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") => Ok(window),
        _ => {
            let instead = "layers are full_attention or sliding_attention";
            unsupported("layer_types", Value::clone(kind), instead)
        }
    });
    windows.collect::<Read<_>>().map(Some)
}
