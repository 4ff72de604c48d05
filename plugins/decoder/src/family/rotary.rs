//! The rotary settings, in the older and the newer spelling.

use serde_json::Value;

use super::fields::{Fields, Problem, Read, unsupported};
use crate::rope::{Rope, Scaling};

/// Reads `rope_theta` with `rope_scaling`, or `rope_parameters`, of a model with this number of
/// positions.
pub(super) fn rope(fields: Fields<'_>, positions: usize) -> Read<Rope> {
    let nothing = serde_json::Map::new();
    let (key, inner) = parameters(fields)?.unwrap_or(("rope_parameters", Fields(&nothing)));
    let theta = fields.positive_or("rope_theta", 10_000.0)?;
    for fields in [fields, inner] {
        if let Some(share) = fields.number("partial_rotary_factor")?.filter(|share| *share != 1.0) {
            return unsupported("partial_rotary_factor", share, "it must be 1");
        }
    }
    let kind = inner.get("rope_type").or_else(|| inner.get("type"));
    let needed = |name: &str| match inner.number(name)? {
        Some(number) if number > 0.0 => Ok(number),
        _ => Err(Problem::Broken(format!("`{key}` must have a positive `{name}`"))),
    };
    let scaling = match kind.map_or(Some("default"), Value::as_str) {
        Some("default") => Scaling::None,
        Some("linear") => Scaling::Linear(needed("factor")?),
        Some("llama3") => {
            let original = "original_max_position_embeddings";
            let original = match fields.number(original)? {
                Some(original) => original,
                None => inner.positive_or(original, positions as f64)?,
            };
            Scaling::Llama3 {
                factor: needed("factor")?,
                low_frequency: needed("low_freq_factor")?,
                high_frequency: needed("high_freq_factor")?,
                original,
            }
        }
        _ => {
            let found = kind.unwrap_or(&Value::Null);
            let key = format!("{key}.rope_type");
            return unsupported(&key, found, "supported are default, linear and llama3");
        }
    };
    Ok(Rope { theta: inner.positive_or("rope_theta", theta)?, scaling })
}

/// The object with the settings, and its key.
fn parameters(fields: Fields<'_>) -> Read<Option<(&'static str, Fields<'_>)>> {
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = fields.get(key) else { continue };
        let Some(map) = value.as_object() else {
            return Err(Problem::Broken(format!("`{key}` must be an object, got {value}")));
        };
        if map.values().any(Value::is_object) {
            return unsupported(key, value, "all layers must have the same");
        }
        if !map.is_empty() {
            return Ok(Some((key, Fields(map))));
        }
    }
    Ok(None)
}
