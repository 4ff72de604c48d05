//! Gemma 3, the text model.

use serde_json::Value;
use vxf_hf::Account;

use super::fields::{Fields, Problem, Read, unsupported};
use super::layer_types;
use super::llama::{self, Defaults};
use super::output;
use super::rotary::{self, Settings};
use crate::design::{Biases, Design, Mlp, Names, Norm, Position};
use crate::rope::Rope;

const DEFAULTS: Defaults =
    Defaults { family: "gemma3", kv_heads: Some(4), head_width: Some(256), positions: 131_072 };

/// The keys of the two rotations, for layers that see all keys and for those with a window.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Reads the configuration of a Gemma 3.
pub(super) fn third(fields: Fields<'_>) -> Read<Design> {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(value) = fields.get(key) {
            return unsupported(key, value, "it must be null");
        }
    }
    if fields.flag_or("use_bidirectional_attention", false)? {
        return unsupported("use_bidirectional_attention", true, "it must be false");
    }
    let mlp = llama::gated(fields, "hidden_activation", Mlp::GeGlu)?;
    let bias = fields.flag_or("attention_bias", false)?;
    let window = fields.optional_size("sliding_window", Some(4096))?;
    let pattern = fields.size_or("sliding_window_pattern", 6)?;
    let (ropes, unknown) = ropes(fields)?;
    let design = llama::shaped(fields, &DEFAULTS, ropes[0].clone())?;
    let layers = design.windows.len();
    let windows = layer_types::windows(fields, layers, window)?;
    let every = |layer: usize| window.filter(|_| !(layer + 1).is_multiple_of(pattern));
    let scalar = fields.positive_or("query_pre_attn_scalar", 256.0)?;
    let scale = (design.head_width as f64 / scalar).sqrt();
    Ok(Design {
        names: Names::GEMMA,
        norm: Norm::OffsetRms,
        query_key_norm: true,
        embedding_scale: Some((design.width as f64).sqrt()),
        local_rope: Some(ropes[1].clone()),
        query_scale: Some(scale).filter(|scale| *scale != 1.0),
        windows: windows.unwrap_or_else(|| (0..layers).map(every).collect()),
        mlp,
        biases: Biases { query_key_value: bias, output: bias, mlp: false },
        output: output(fields, true)?,
        padding: super::padding(fields, Some(0), design.vocabulary)?,
        position: Position::Rotary(ropes[0].clone()),
        unknown,
        ..design
    })
}

/// The rotations of layers that see all keys, and of those with a window; with unknown keys.
///
/// Older files have `rope_theta` and `rope_scaling` for the first and `rope_local_base_freq` for the
/// second.
fn ropes(fields: Fields<'_>) -> Read<([Rope; 2], Vec<String>)> {
    let positions = fields.size_or("max_position_embeddings", DEFAULTS.positions)?;
    let nested = fields.get("rope_parameters").and_then(Value::as_object);
    let Some(nested) = nested.filter(|map| KINDS.iter().any(|kind| map.contains_key(*kind))) else {
        let local = fields.positive_or("rope_local_base_freq", 10_000.0)?;
        let (global, unknown) = rotary::rope_with(fields, positions, 1_000_000.0)?;
        return Ok(([global, Rope::plain(local)], unknown));
    };
    let mut unknown = Vec::new();
    let mut ropes = Vec::new();
    for (kind, theta) in KINDS.into_iter().zip([1_000_000.0, 10_000.0]) {
        let Some(object) = nested.get(kind).and_then(Value::as_object) else {
            let problem = format!("`rope_parameters` must have an object `{kind}`");
            return Err(Problem::Broken(problem));
        };
        let account = Account::of(object);
        let key = format!("rope_parameters.{kind}");
        let settings = Settings { key: &key, outer: fields, inner: Fields(&account), positions };
        ropes.push(settings.rope(theta)?);
        unknown.extend(account.unread(&[]).into_iter().map(|inner| format!("{key}.{inner}")));
    }
    let [global, local] = <[Rope; 2]>::try_from(ropes)
        .map_err(|_| Problem::Broken("`rope_parameters` has two objects".to_owned()))?;
    Ok(([global, local], unknown))
}
