//! Phi-3 and Phi-4-mini.

use super::fields::{Fields, Read, unsupported};
use super::llama::{self, Defaults};
use super::{padding, rotary};
use crate::design::{Design, Names};

const DEFAULTS: Defaults =
    Defaults { family: "phi3", kv_heads: None, head_width: None, positions: 4096 };

/// Reads the configuration of a Phi-3 or Phi-4-mini. A missing or null window is no window.
pub(super) fn third(fields: Fields<'_>) -> Read<Design> {
    // Keys of such files that would change the model, were they set.
    for key in ["attention_bias", "mlp_bias", "lm_head_bias"] {
        if fields.flag_or(key, false)? {
            return unsupported(key, true, "it must be false");
        }
    }
    for key in ["full_attn_mod", "interpolate_factor"] {
        if let Some(value) = fields.number(key)?.filter(|value| *value != 1.0) {
            return unsupported(key, value, "it must be 1");
        }
    }
    fields.zero("embd_pdrop")?;
    fields.only("hidden_act", &["silu", "swish"])?;
    let positions = fields.size_or("max_position_embeddings", DEFAULTS.positions)?;
    let (rope, unknown) = rotary::rope_with(fields, positions, 10_000.0, true)?;
    let window = fields.optional_size("sliding_window", None)?;
    let design = llama::shaped(fields, &DEFAULTS, rope)?;
    Ok(Design {
        names: Names::PHI3,
        fused: true,
        epsilon: fields.positive_or("rms_norm_eps", 1e-5)?,
        windows: vec![window; design.windows.len()],
        padding: padding(fields, Some(32_000), design.vocabulary)?,
        dropout: fields.rate_or("resid_pdrop", 0.0)?,
        unknown,
        ..design
    })
}
