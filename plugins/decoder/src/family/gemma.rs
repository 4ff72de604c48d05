//! Gemma 2, and the text model of Gemma 3.

use serde_json::Value;
use vxf_hf::Account;

use super::fields::{Fields, Problem, Read, broken, unsupported};
use super::layer_types;
use super::llama::{self, Defaults};
use super::output;
use super::rotary::{self, Settings};
use crate::design::{Biases, Design, Mlp, Names, Norm};
use crate::rope::Rope;

const DEFAULTS: Defaults =
    Defaults { family: "gemma3", kv_heads: Some(4), head_width: Some(256), positions: 131_072 };

/// The keys of the two rotations, for layers that see all keys and for those with a window.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Reads the configuration of a Gemma 2. Every second layer has a window, from the first one on, if
/// `layer_types` does not say otherwise.
pub(super) fn second(fields: Fields<'_>) -> Read<Design> {
    let defaults = Defaults { family: "gemma2", positions: 8192, ..DEFAULTS };
    let positions = fields.size_or("max_position_embeddings", defaults.positions)?;
    let (rope, unknown) = rotary::rope(fields, positions)?;
    Ok(Design { unknown, ..shared(fields, &defaults, rope, 2)? })
}

/// Reads the configuration of a Gemma 3.
pub(super) fn third(fields: Fields<'_>) -> Read<Design> {
    let pattern = fields.size_or("sliding_window_pattern", 6)?;
    let ([global, local], unknown) = ropes(fields)?;
    Ok(Design {
        query_key_norm: true,
        local_rope: Some(local),
        // Transformers has the setting, and no score of a Gemma 3 is capped.
        score_cap: None,
        unknown,
        ..shared(fields, &DEFAULTS, global, pattern)?
    })
}

/// What both have. Every layer but each `pattern`-th has a window.
fn shared(fields: Fields<'_>, defaults: &Defaults, rope: Rope, pattern: usize) -> Read<Design> {
    if fields.flag_or("use_bidirectional_attention", false)? {
        return unsupported("use_bidirectional_attention", true, "it must be false");
    }
    let mlp = llama::gated(fields, "hidden_activation", Mlp::GeGlu)?;
    let bias = fields.flag_or("attention_bias", false)?;
    let window = fields.optional_size("sliding_window", Some(4096))?;
    let design = llama::shaped(fields, defaults, rope)?;
    let layers = design.windows.len();
    let windows = layer_types::windows(fields, layers, window)?;
    let every = |layer: usize| window.filter(|_| !(layer + 1).is_multiple_of(pattern));
    let scalar = fields.positive_or("query_pre_attn_scalar", 256.0)?;
    let scale = (design.head_width as f64 / scalar).sqrt();
    Ok(Design {
        names: Names::GEMMA,
        norm: Norm::OffsetRms,
        embedding_scale: Some((design.width as f64).sqrt()),
        score_cap: cap(fields, "attn_logit_softcapping", defaults)?,
        logit_cap: cap(fields, "final_logit_softcapping", defaults)?,
        query_scale: Some(scale).filter(|scale| *scale != 1.0),
        windows: windows.unwrap_or_else(|| (0..layers).map(every).collect()),
        mlp,
        biases: Biases { query_key_value: bias, output: bias, mlp: false },
        output: output(fields, true)?,
        padding: super::padding(fields, Some(0), design.vocabulary)?,
        ..design
    })
}

/// A soft cap. Where the key is missing, Gemma 2 has one and Gemma 3 none; null is none.
fn cap(fields: Fields<'_>, key: &str, defaults: &Defaults) -> Read<Option<f64>> {
    let absent = match (defaults.family, key) {
        ("gemma2", "attn_logit_softcapping") => Some(50.0),
        ("gemma2", _) => Some(30.0),
        _ => None,
    };
    if fields.0.get(key).is_none() {
        return Ok(absent);
    }
    match fields.number(key)? {
        Some(cap) if !(cap > 0.0 && cap.is_finite()) => broken(key, "positive", cap),
        cap => Ok(cap),
    }
}

/// The rotations of layers that see all keys, and of those with a window; with unknown keys.
///
/// Older files have `rope_theta` and `rope_scaling` for the first and `rope_local_base_freq` for the
/// second.
fn ropes(fields: Fields<'_>) -> Read<([Rope; 2], Vec<String>)> {
    let positions = fields.size_or("max_position_embeddings", DEFAULTS.positions)?;
    let nested = fields.get("rope_parameters").and_then(Value::as_object);
    let Some(nested) = nested.filter(|map| !map.is_empty()) else {
        let local = fields.positive_or("rope_local_base_freq", 10_000.0)?;
        let (global, unknown) = rotary::rope_with(fields, positions, 1_000_000.0, false)?;
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
        let inner = Fields(&account);
        let settings = Settings { key: &key, outer: fields, inner, positions, partial: false };
        ropes.push(settings.rope(theta)?);
        unknown.extend(account.unread(&[]).into_iter().map(|inner| format!("{key}.{inner}")));
    }
    let [global, local] = <[Rope; 2]>::try_from(ropes)
        .map_err(|_| Problem::Broken("`rope_parameters` has two objects".to_owned()))?;
    Ok(([global, local], unknown))
}
