//! Causal attention.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CudaStorage, Result, Shape, Tensor, bail};
use vxf_cuda::{
    Attention as Sizes, Operand, Sample, Samples, Strides, attention_back, tensor, turned, with,
};
use vxf_tensor::Rows;

use super::{Kernel, apply_one, apply_three, if_tracked};
use crate::ops::{AttentionDims, Heads, Limits};

/// See [`crate::ops::attention`], which has checked the operands. `None` if the kernels do not support
/// the sizes.
pub(crate) fn attention(
    [q, k, v]: [&Tensor; 3],
    dims: AttentionDims,
    lengths: &[usize],
    pitch: Option<usize>,
) -> Result<Option<Tensor>> {
    let AttentionDims { batch, heads, kv_heads, len, keys, d, .. } = dims;
    let (limits, past) = (dims.limits(), keys - len);
    // Samples begin at whole rows of keys.
    let pitch = pitch.filter(|pitch| pitch % d == 0);
    let apart = pitch.unwrap_or(keys * d);
    let sample = |(index, &seen): (usize, &usize)| Sample {
        first: index * len,
        first_key: index * (apart / d),
        len,
        seen,
    };
    let samples: Vec<Sample> = lengths.iter().enumerate().map(sample).collect();
    if !supported(&samples, past, d, limits) {
        return Ok(None);
    }
    let op = Attention {
        sizes: Sizes {
            heads,
            kv_heads,
            past,
            d,
            queries: Strides { position: d, head: len * d },
            keys: Strides { position: d, head: apart },
            window: limits.window,
            scale: dims.scale(),
        },
        samples: Samples::shared(q.device().as_cuda_device()?, samples)?,
        shape: Shape::from((batch, len, heads * d)),
        lse: OnceLock::new(),
    };
    // Heads are further apart only without differentiation; then nothing is copied.
    Ok(Some(match pitch {
        Some(_) => vxf_tensor::autograd::apply3([&q.contiguous()?, k, v], super::Op(op))?,
        None => apply_three([q, k, v], op)?,
    }))
}

/// See [`crate::ops::attend`], which has checked the operands: queries, keys and values
/// `[positions, heads d]`. `None` if the kernels do not support the sizes.
///
/// Rows stay where they are. Queries and keys are rotated in a copy, and a row has its heads side by side.
pub(crate) fn attend(
    [q, k, v]: [&Tensor; 3],
    of: &Heads,
    d: usize,
    rows: &Rows,
) -> Result<Option<Tensor>> {
    let Heads { queries: heads, keys: kv_heads, limits, .. } = *of;
    let sample = |(range, &seen): (Range<usize>, &usize)| Sample {
        first: range.start,
        first_key: range.start,
        len: range.len(),
        seen,
    };
    let samples = rows.ranges().zip(rows.seen()).map(sample);
    let samples: Vec<Sample> = samples.filter(|sample| sample.len > 0).collect();
    if !supported(&samples, 0, d, limits) {
        return Ok(None);
    }
    let samples = Samples::shared(q.device().as_cuda_device()?, samples)?;
    let (q, k) = match &of.rotation {
        None => (q.clone(), k.clone()),
        Some([cos, sin]) => {
            let tables = [cos.detach().contiguous()?, sin.detach().contiguous()?];
            let half = cos.dim(1)?;
            let turn = |x: &Tensor, heads: usize| {
                let (tables, samples) = (tables.clone(), samples.clone());
                apply_one(x, Turned { tables, samples, sizes: [heads, d, half] })
            };
            (turn(q, heads)?, turn(k, kv_heads)?)
        }
    };
    let op = Attention {
        sizes: Sizes {
            heads,
            kv_heads,
            past: 0,
            d,
            queries: Strides { position: heads * d, head: d },
            keys: Strides { position: kv_heads * d, head: d },
            window: limits.window,
            scale: 1.0 / (d as f64).sqrt(),
        },
        samples,
        shape: Shape::from((rows.count(), heads * d)),
        lse: OnceLock::new(),
    };
    apply_three([&q, &k, v], op).map(Some)
}

/// Whether heads are not too wide, scores have no soft cap, and each query sees a key.
fn supported(samples: &[Sample], past: usize, d: usize, limits: Limits) -> bool {
    // A query that sees nothing stands after all that see something.
    let sees = |sample: &Sample| {
        let hidden = limits.window.map_or(0, |it| (past + sample.len).saturating_sub(it));
        hidden < sample.seen
    };
    d <= vxf_cuda::WIDEST && limits.cap.is_none() && samples.iter().all(sees)
}

struct Attention {
    sizes: Sizes,
    samples: Arc<Samples>,
    /// That of the result.
    shape: Shape,
    /// The log-sum-exp of each query's scores, from the forward pass.
    lse: OnceLock<Tensor>,
}

impl Kernel<3> for Attention {
    const NAME: &'static str = "cuda-attention";

    fn forward(&self, operands: [Operand<'_>; 3]) -> Result<(CudaStorage, Shape)> {
        let [y, lse] = vxf_cuda::attention(operands, &self.samples, self.sizes)?;
        let Sizes { heads, d, .. } = self.sizes;
        // Each operation runs forward once, so the cell was empty.
        self.lse.get_or_init(|| tensor(lse, (heads, self.shape.elem_count() / (heads * d))));
        Ok((y, self.shape.clone()))
    }

    fn backward(
        &self,
        operands: [&Tensor; 3],
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let Some(lse) = self.lse.get() else {
            bail!("attention: the backward pass ran before the forward pass");
        };
        let [q, k, v] = operands;
        let need = [q.track_op(), k.track_op() || v.track_op()];
        let [dq, dk, dv] = with(operands, |operands| {
            with([y, dy, lse], |results| {
                attention_back(operands, results, &self.samples, self.sizes, need)
            })
        })?;
        let made = |x: &Tensor, gradient: Option<CudaStorage>| {
            gradient.filter(|_| x.track_op()).map(|gradient| tensor(gradient, x.shape()))
        };
        Ok([made(q, dq), made(k, dk), made(v, dv)])
    }
}

/// The rotation of dense rows.
struct Turned {
    /// Cosines and sines.
    tables: [Tensor; 2],
    samples: Arc<Samples>,
    /// Heads, their width, and the number of pairs that are rotated.
    sizes: [usize; 3],
}

impl Turned {
    fn apply(&self, x: Operand<'_>, back: bool) -> Result<CudaStorage> {
        let [cos, sin] = &self.tables;
        with([cos, sin], |tables| turned(x, tables, &self.samples, self.sizes, back))
    }
}

impl Kernel<1> for Turned {
    const NAME: &'static str = "cuda-turned";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let [heads, d, _] = self.sizes;
        let shape = Shape::from((x.count() / (heads * d), heads * d));
        Ok((self.apply(x, false)?, shape))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([if_tracked(x, || with([dy], |[dy]| self.apply(dy, true)))?])
    }
}
