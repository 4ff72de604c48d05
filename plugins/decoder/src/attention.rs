//! Attention: projections, positions and scores.

use crate::layers::{Group, Linear, Norm};
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::{Error, Result, Trainable};
use vxf_nn::ops;

use crate::cache::Cache;
use crate::parts::Parts;
use crate::rope::Tables;

/// The rotation tables of a batch, if positions are rotary.
pub(crate) struct Positions {
    pub(crate) rotary: Option<Tables>,
    /// Those of layers with a window, where they differ.
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
    /// Queries, keys and values.
    projections: Group,
    output: Linear,
    /// Of each head's queries and keys.
    norms: Option<[Norm; 2]>,
}

impl Attention {
    pub(crate) fn new(layer: usize, parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        let name = |part| design.layer_name(layer, part);
        let norm = |part| parts.rms_norm(&name(part));
        Ok(Self {
            heads: design.heads,
            kv_heads: design.kv_heads,
            window: design.windows[layer],
            query_scale: design.query_scale,
            dropout: Dropout { name: name("self_attn"), rate: design.attention_dropout },
            projections: parts.group(&design.query_key_value(layer))?,
            output: parts.linear(&name(design.names.attention_output))?,
            norms: match design.query_key_norm {
                true => Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?]),
                false => None,
            },
        })
    }

    /// `[positions, width]` to the same, output projection included.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        positions: &Positions,
        cache: Option<&mut Cache>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        self.dropout.only_in_evaluation(x, pass)?;
        let local = positions.local.as_ref().filter(|_| self.window.is_some());
        let tables = local.or(positions.rotary.as_ref());
        let rotation = tables.map(|it| [it.cos.clone(), it.sin.clone()]);
        let (queries, keys, window) = (self.heads, self.kv_heads, self.window);
        let heads = ops::Heads { queries, keys, rotation, window };
        let joined = match (&self.norms, self.query_scale) {
            (None, None) => self.projections.joined(x, pass)?,
            _ => None,
        };
        let parts = match joined {
            Some(joined) => vec![joined],
            None => self.prepared(self.projections.apart(x, pass)?, pass)?,
        };
        let parts: Vec<_> = parts.iter().collect();
        let mixed = match cache {
            None => ops::attend(&parts, &heads, pass.rows())?,
            Some(Cache::Own(kept)) => ops::attend_cached(&parts, &heads, pass.rows(), kept)?,
            Some(Cache::Tensors(kept)) => {
                let [query, key, value] = parts[..] else {
                    unreachable!("joined on the CPU alone")
                };
                kept.attend([query, key, value], &heads, pass.rows())?
            }
        };
        self.output.forward(&mixed, pass)
    }

    /// Queries, keys and values, `[positions, heads d]` each, normalised and scaled where the design
    /// says so.
    fn prepared(&self, mut parts: Vec<Tensor>, pass: &Pass<'_>) -> Result<Vec<Tensor>> {
        for (norm, part) in self.norms.iter().flatten().zip(&mut parts) {
            *part = norm.forward(part, pass)?;
        }
        if let Some(scale) = self.query_scale {
            parts[0] = ops::scaled(&parts[0], scale)?;
        }
        Ok(parts)
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        Self {
            projections: self.projections.with_trainable(trainable),
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
