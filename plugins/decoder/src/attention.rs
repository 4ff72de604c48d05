//! Attention: projections, positions and scores.

use crate::layers::{Group, Linear, Norm};
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::{Result, Trainable};
use vxf_nn::ops;

use crate::cache::Cache;
use crate::parts::Parts;
use crate::rope::Tables;

/// The attention of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    window: Option<usize>,
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
        tables: Option<&Tables>,
        cache: Option<&mut Cache>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let rotation = tables.map(|it| [it.cos.clone(), it.sin.clone()]);
        let (queries, keys, window) = (self.heads, self.kv_heads, self.window);
        let heads = ops::Heads { queries, keys, rotation, window };
        let joined = match self.norms {
            None => self.projections.joined(x, pass)?,
            Some(_) => None,
        };
        let parts = match joined {
            Some(joined) => vec![joined],
            None => self.normed(self.projections.apart(x, pass)?, pass)?,
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

    /// Queries, keys and values, `[positions, heads d]` each, normed where the design says so.
    fn normed(&self, mut parts: Vec<Tensor>, pass: &Pass<'_>) -> Result<Vec<Tensor>> {
        for (norm, part) in self.norms.iter().flatten().zip(&mut parts) {
            *part = norm.forward(part, pass)?;
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
