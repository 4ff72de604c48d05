//! OPT.

use super::fields::{Fields, Read};
use super::{layers, output, padding, shared_width};
use crate::design::{Biases, Design, Mlp, Names, Norm, Position};

/// Reads the configuration of an OPT.
pub(super) fn design(fields: Fields<'_>) -> Read<Design> {
    fields.only("activation_function", &["relu"])?;
    fields.zero("layerdrop")?;
    let (width, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let vocabulary = fields.size("vocab_size")?;
    let bias = fields.flag_or("enable_bias", true)?;
    let norm_first = fields.flag_or("do_layer_norm_before", true)?;
    let without_last = fields.flag_or("_remove_final_layer_norm", false)?;
    Ok(Design {
        family: "opt",
        names: Names::OPT,
        width,
        embedding_width: fields.size_or("word_embed_proj_dim", width)?,
        embedding_scale: None,
        local_rope: None,
        query_scale: None,
        score_cap: None,
        logit_cap: None,
        fused: false,
        inner: fields.size("ffn_dim")?,
        heads,
        kv_heads: heads,
        head_width: shared_width(width, heads)?,
        vocabulary,
        positions: fields.size_or("max_position_embeddings", 2048)?,
        position: Position::Learned { offset: 2 },
        windows: vec![None; layers(fields)?],
        norm: match fields.flag_or("layer_norm_elementwise_affine", true)? {
            true => Norm::Layer,
            false => Norm::PlainLayer,
        },
        epsilon: 1e-5,
        norm_first,
        final_norm: norm_first && !without_last,
        query_key_norm: false,
        mlp: Mlp::Relu,
        biases: Biases { query_key_value: bias, output: bias, mlp: bias },
        output: output(fields, true)?,
        padding: padding(fields, Some(1), vocabulary)?,
        dropout: fields.rate_or("dropout", 0.1)?,
        attention_dropout: fields.rate_or("attention_dropout", 0.0)?,
        unknown: Vec::new(),
    })
}
