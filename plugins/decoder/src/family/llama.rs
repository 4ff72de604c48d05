//! Llama, and the parts that later families share with it.

use super::fields::{Fields, Read, unsupported};
use super::{layers, output, padding, rotary, shared_width};
use crate::design::{Biases, Design, Mlp, Names, Norm, Position};
use crate::rope::Rope;

const DEFAULTS: Defaults =
    Defaults { family: "llama", kv_heads: None, head_width: None, positions: 2048 };

/// The defaults of a family.
pub(super) struct Defaults {
    pub(super) family: &'static str,
    /// The number of query heads if `None`.
    pub(super) kv_heads: Option<usize>,
    /// The model's width divided by the number of heads if `None`.
    pub(super) head_width: Option<usize>,
    pub(super) positions: usize,
}

/// Reads the configuration of a Llama.
pub(super) fn design(fields: Fields<'_>) -> Read<Design> {
    let attention = fields.flag_or("attention_bias", false)?;
    let mlp = fields.flag_or("mlp_bias", false)?;
    Ok(Design {
        biases: Biases { query_key_value: attention, output: attention, mlp },
        ..like(fields, &DEFAULTS)?
    })
}

/// The common part of Llama and related families, without biases.
pub(super) fn like(fields: Fields<'_>, defaults: &Defaults) -> Read<Design> {
    let mlp = gated(fields, "hidden_act", Mlp::SwiGlu)?;
    let positions = fields.size_or("max_position_embeddings", defaults.positions)?;
    let (rope, unknown) = rotary::rope(fields, positions)?;
    Ok(Design { mlp, unknown, ..shaped(fields, defaults, rope)? })
}

/// [`like`] with a given rotation.
pub(super) fn shaped(fields: Fields<'_>, defaults: &Defaults, rope: Rope) -> Read<Design> {
    let (width, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let head_width = match fields.optional_size("head_dim", defaults.head_width)? {
        Some(width) => width,
        None => shared_width(width, heads)?,
    };
    let vocabulary = fields.size("vocab_size")?;
    let positions = fields.size_or("max_position_embeddings", defaults.positions)?;
    Ok(Design {
        family: defaults.family,
        names: Names::LLAMA,
        width,
        embedding_width: width,
        embedding_scale: None,
        local_rope: None,
        query_scale: None,
        inner: fields.size("intermediate_size")?,
        heads,
        kv_heads: fields.optional_size("num_key_value_heads", defaults.kv_heads)?.unwrap_or(heads),
        head_width,
        score_cap: None,
        logit_cap: None,
        fused: false,
        vocabulary,
        positions,
        position: Position::Rotary(rope),
        windows: vec![None; layers(fields)?],
        norm: Norm::Rms,
        epsilon: fields.positive_or("rms_norm_eps", 1e-6)?,
        norm_first: true,
        final_norm: true,
        query_key_norm: false,
        mlp: Mlp::SwiGlu,
        biases: Biases { query_key_value: false, output: false, mlp: false },
        output: output(fields, false)?,
        padding: padding(fields, None, vocabulary)?,
        dropout: 0.0,
        attention_dropout: fields.rate_or("attention_dropout", 0.0)?,
        unknown: Vec::new(),
    })
}

/// The gated block with the activation that `key` names.
pub(super) fn gated(fields: Fields<'_>, key: &str, default: Mlp) -> Read<Mlp> {
    match fields.get(key).map(|value| (value, value.as_str())) {
        None => Ok(default),
        Some((_, Some("silu" | "swish"))) => Ok(Mlp::SwiGlu),
        Some((_, Some("gelu_pytorch_tanh" | "gelu_new"))) => Ok(Mlp::GeGlu),
        Some((value, _)) => unsupported(key, value, "supported are silu and gelu_pytorch_tanh"),
    }
}
