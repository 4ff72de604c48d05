//! Attention: projections, positions and scores.

use crate::layers::{Group, Linear, Norm};
use candle_core::{Device, Tensor};
use vxf_core::backbone::Pass;
use vxf_core::site::SiteKind;
use vxf_core::{Error, Result, Site, Trainable};
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
    layer: usize,
    heads: usize,
    kv_heads: usize,
    limits: ops::Limits,
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
            layer,
            heads: design.heads,
            kv_heads: design.kv_heads,
            limits: ops::Limits { window: design.windows[layer], cap: design.score_cap },
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
        let x = &pass.tap(self.site(SiteKind::AttentionInput), x)?;
        let heads = self.heads(positions);
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
            Some(Cache::Tensors(kept)) => kept.attend(&self.split(&parts)?, &heads, pass.rows())?,
        };
        let mixed = pass.tap(self.site(SiteKind::AttentionMixed), &mixed)?;
        self.output.forward(&mixed, pass)
    }

    /// The attention that each row of `x` pays to its sample's first token, `[positions, heads]`.
    pub(crate) fn first_token(
        &self,
        x: &Tensor,
        positions: &Positions,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let mut parts = self.prepared(self.projections.apart(x, pass)?, pass)?;
        // With values of 1 at first tokens and 0 elsewhere, the mixed values are the attention paid to them.
        let first = pass.rows().positions().map(|(_, at)| f32::from(u8::from(at == 0)));
        let first: Vec<f32> = first.collect();
        let (rows, width) = parts[2].dims2()?;
        let first = Tensor::from_vec(first, (rows, 1), &Device::Cpu)?.to_dtype(x.dtype())?;
        parts[2] = first.to_device(x.device())?.broadcast_as((rows, width))?.contiguous()?;
        let parts: Vec<_> = parts.iter().collect();
        let mixed = ops::attend(&parts, &self.heads(positions), pass.rows())?;
        let each = (rows, self.heads, width / self.kv_heads);
        Ok(mixed.reshape(each)?.narrow(2, 0, 1)?.squeeze(2)?)
    }

    /// What the attention kernels need to know of the heads.
    fn heads(&self, positions: &Positions) -> ops::Heads {
        let local = positions.local.as_ref().filter(|_| self.limits.window.is_some());
        let tables = local.or(positions.rotary.as_ref());
        let rotation = tables.map(|it| [it.cos.clone(), it.sin.clone()]);
        ops::Heads { queries: self.heads, keys: self.kv_heads, rotation, limits: self.limits }
    }

    fn site(&self, kind: SiteKind) -> Site {
        Site { layer: self.layer, kind }
    }

    /// Queries, keys and values, `[positions, heads d]` each, where they may lie side by side.
    fn split(&self, parts: &[&Tensor]) -> Result<[Tensor; 3]> {
        match *parts {
            [query, key, value] => Ok([query.clone(), key.clone(), value.clone()]),
            [joined] => {
                let (queries, keys) = (self.heads, self.kv_heads);
                let d = joined.dim(1)? / (queries + 2 * keys);
                let part = |first: usize, heads: usize| joined.narrow(1, first * d, heads * d);
                Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?])
            }
            _ => unreachable!("one operand or three"),
        }
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
