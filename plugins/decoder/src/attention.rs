//! Attention: projections, positions and scores.

use crate::layers::{Linear, Norm};
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::{Error, Result, Trainable};
use vxf_nn::ops;

use crate::cache::Cache;
use crate::parts::Parts;
use crate::rope::Tables;

/// The positions of a sequence: the first one, and the rotation tables if positions are rotary.
pub(crate) struct Positions {
    pub(crate) offset: usize,
    pub(crate) rotary: Option<Tables>,
    /// The tables of layers with a window, where they are others.
    pub(crate) local: Option<Tables>,
}

/// The attention of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    window: Option<usize>,
    query_scale: Option<f64>,
    dropout: Dropout,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// The norm of each head's queries.
    query_norm: Option<Norm>,
    /// The norm of each head's keys.
    key_norm: Option<Norm>,
}

impl Attention {
    pub(crate) fn new(layer: usize, parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        let name = |part| design.layer_name(layer, part);
        let linear = |part| parts.linear(&name(part));
        let norm = |part| design.query_key_norm.then(|| parts.rms_norm(&name(part))).transpose();
        Ok(Self {
            heads: design.heads,
            kv_heads: design.kv_heads,
            window: design.windows[layer],
            query_scale: design.query_scale,
            dropout: Dropout { name: name("self_attn"), rate: design.attention_dropout },
            query: linear("self_attn.q_proj")?,
            key: linear("self_attn.k_proj")?,
            value: linear("self_attn.v_proj")?,
            output: linear(design.names.attention_output)?,
            query_norm: norm("self_attn.q_norm")?,
            key_norm: norm("self_attn.k_norm")?,
        })
    }

    /// `[batch, sequence, width]` in and out, output projection included.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        positions: &Positions,
        cache: Option<&mut Cache>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        self.dropout.only_in_evaluation(x, pass)?;
        let (query_norm, key_norm) = (self.query_norm.as_ref(), self.key_norm.as_ref());
        let local = positions.local.as_ref().filter(|_| self.window.is_some());
        let rotation = local.or(positions.rotary.as_ref()).map(|it| (it, positions.offset));
        let query = heads(&self.query.forward(x, pass)?, self.heads, query_norm, rotation, pass)?;
        let query = match self.query_scale {
            Some(scale) => ops::scaled(&query, scale)?,
            None => query,
        };
        let mut key = heads(&self.key.forward(x, pass)?, self.kv_heads, key_norm, rotation, pass)?;
        let mut value = ops::split_heads(&self.value.forward(x, pass)?, self.kv_heads)?;
        if let Some(cache) = cache {
            (key, value) = cache.append(&key, &value)?;
        }
        let mixed = ops::attention(&query, &key, &value, pass.lengths(), self.window)?;
        self.output.forward(&mixed, pass)
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        Self {
            query: self.query.with_trainable(trainable),
            key: self.key.with_trainable(trainable),
            value: self.value.with_trainable(trainable),
            output: self.output.with_trainable(trainable),
            ..self.clone()
        }
    }
}

/// Dropout on the attention's weights, which the fused attention does not have.
#[derive(Clone, Debug)]
struct Dropout {
    name: String,
    rate: f64,
}

impl Dropout {
    /// Refuses passes that train with it.
    fn only_in_evaluation(&self, x: &Tensor, pass: &Pass<'_>) -> Result<()> {
        if self.rate == 0.0 || pass.dropout(&self.name, self.rate, x)?.is_none() {
            return Ok(());
        }
        Err(Error::Unsupported {
            path: "config.json".to_owned(),
            problem: format!(
                "`attention_dropout` = {} is not supported in training; set it to 0 to train \
                 without it",
                self.rate
            ),
        })
    }
}

/// Queries or keys `[batch, sequence, heads d]` as `[batch, heads, sequence, d]`, normalised and
/// rotated if the design says so.
fn heads(
    x: &Tensor,
    count: usize,
    norm: Option<&Norm>,
    rotation: Option<(&Tables, usize)>,
    pass: &Pass<'_>,
) -> Result<Tensor> {
    let normed = norm.map(|norm| norm.forward(x, pass)).transpose()?;
    let x = normed.as_ref().unwrap_or(x);
    Ok(match rotation {
        Some((Tables { cos, sin }, offset)) => ops::rotary(x, count, cos, sin, offset)?,
        None => ops::split_heads(x, count)?,
    })
}
