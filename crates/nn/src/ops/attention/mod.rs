//! Causal attention with grouped key and value heads, in tiles of queries.

mod backward;
mod cached;
mod dense;
mod dims;
mod tile;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use vxf_tensor::autograd::apply3;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::compose;
use crate::kernel::Real;

use backward::Task;
pub use cached::{KeyValues, attend_cached};
pub use dense::{Heads, attend};
pub(crate) use dims::Dims;
pub use dims::Limits;
use dims::Sight;
use tile::{Attention, Sample};

/// Attends causally from queries to keys and joins the heads.
///
/// `q` is `[B, Hq, T, d]`, `k` and `v` are `[B, Hkv, S, d]` with `S >= T` and `Hq` a multiple of
/// `Hkv`; the result is `[B, T, Hq d]`. Query head `h` reads key head `h / (Hq / Hkv)`, query `t`
/// has position `S - T + t` and sees the keys up to there, scaled by `1 / sqrt(d)`.
///
/// `limits` has the most keys that a query sees, the last ones, its own included, and the soft cap of
/// scores; a plain `Option<usize>` is a window.
///
/// `lengths` counts the real keys of each batch row, at least one: later keys are padding that no
/// query sees. Queries in the padding still attend to the real keys, so that every row of the
/// result is finite. If the window of such a query contains padding only, it averages all values
/// and propagates gradients as if its scores mattered. Hugging Face's eager attention does the same
/// for rows that its mask hides, and losses over padding were recorded with it.
///
/// Scores are kept for a few query rows only, and not between the passes: the backward pass
/// computes them again.
///
/// Without differentiation, `k` and `v` may be the first `S` positions of longer, contiguous
/// tensors, such as a decoder's cache with spare capacity. They are then read in place.
///
/// # Errors
///
/// When the shapes, dtypes, devices or lengths do not match, or a size is zero.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: Option<&[usize]>,
    limits: impl Into<Limits>,
) -> Result<Tensor> {
    let limits = limits.into();
    same_kind("attention", &[q, k, v])?;
    let dims = Dims::new(q, k, v, lengths, limits)?;
    let differentiated = [q, k, v].iter().any(|x| x.track_op());
    let pitch = pitch(k).filter(|_| !differentiated && pitch(k) == pitch(v));
    let all = || lengths.map_or_else(|| vec![dims.keys; dims.batch], <[usize]>::to_vec);
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(q)
        && let Some(y) = crate::cuda::attention([q, k, v], dims, &all(), pitch)?
    {
        return Ok(y);
    }
    if !fused(q) {
        return compose::attention(q, k, v, lengths, limits);
    }
    let (q, lengths) = (q.contiguous()?, all());
    match pitch {
        Some(pitch) => apply3([&q, k, v], Rectangle::new(dims, pitch, &lengths)),
        None => {
            let op = Rectangle::new(dims, dims.keys * dims.d, &lengths);
            apply3([&q, &k.contiguous()?, &v.contiguous()?], op)
        }
    }
}

/// The operation over a rectangle of samples.
struct Rectangle {
    dims: Dims,
    attention: Attention,
}

impl Rectangle {
    fn new(dims: Dims, pitch: usize, lengths: &[usize]) -> Self {
        let Dims { heads, kv_heads, len, keys, d, .. } = dims;
        let sample = |(index, &length): (usize, &usize)| Sample {
            sight: Sight { len, keys, length, window: dims.limits().window },
            row: index * len,
            q: index * heads * len * d,
            k: index * kv_heads * pitch,
            v: index * kv_heads * pitch,
            pitch,
        };
        let samples = lengths.iter().enumerate().map(sample).collect();
        Self { dims, attention: Attention { heads, kv_heads, d, cap: dims.limits().cap, samples } }
    }

    /// The gradients of q, k and v, those not needed left empty.
    fn backward<T: Real>(
        &self,
        operands: (&[T], &[T], &[T]),
        dy: &[T],
        need: [bool; 3],
    ) -> [Vec<T>; 3] {
        let Dims { batch, heads, kv_heads, len, keys, d, .. } = self.dims;
        let sizes = [operands.0.len(), operands.1.len(), operands.2.len()];
        let mut grads: [Vec<T>; 3] =
            std::array::from_fn(|i| if need[i] { vec![T::ZERO; sizes[i]] } else { Vec::new() });
        let [dq, dk, dv] = &mut grads;
        let group = heads / kv_heads;
        let (mut dq, mut dk, mut dv) =
            (dq.chunks_mut(group * len * d), dk.chunks_mut(keys * d), dv.chunks_mut(keys * d));
        let task = |index| Task {
            sample: index / kv_heads,
            kv_head: index % kv_heads,
            dq: dq.next(),
            dk: dk.next(),
            dv: dv.next(),
        };
        let tasks = (0..batch * kv_heads).map(task).collect();
        self.attention.backward(operands, dy, tasks);
        grads
    }
}

/// Elements from one head to the next of `x` `[B, H, S, d]`, where the positions of a head lie dense
/// and all heads equally far apart.
fn pitch(x: &Tensor) -> Option<usize> {
    let [_, heads, keys, d] = *x.dims() else { return None };
    let pitch = x.stride()[1];
    (pitch >= keys * d && *x.stride() == [heads * pitch, pitch, d, 1]).then_some(pitch)
}

/// The elements of keys or values, from the first one.
fn reach<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    Ok(&storage.as_slice::<T>()?[layout.start_offset()..])
}

impl CustomOp3 for Rectangle {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Dims { batch, heads, len, d, .. } = self.dims;
        by_dtype!(q.dtype(), T => {
            let (k, v) = (reach::<T>(k, k_layout)?, reach(v, v_layout)?);
            let y = self.attention.forward(elements(q, q_layout)?, k, v);
            Ok(output(y, &Shape::from((batch, len, heads * d))))
        })
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        let need = [q.track_op(), k.track_op(), v.track_op()];
        by_dtype!(q.dtype(), T => {
            let (qs, ks, vs, dy) = (flat(q)?, flat(k)?, flat(v)?, flat(&dy)?);
            let operands = (qs.slice::<T>()?, ks.slice()?, vs.slice()?);
            let [dq, dk, dv] = self.backward(operands, dy.slice()?, need);
            let made = |needed: bool, values, x: &Tensor| -> Result<Option<Tensor>> {
                if needed { gradient::<T>(values, x.shape()).map(Some) } else { Ok(None) }
            };
            Ok((made(need[0], dq, q)?, made(need[1], dk, k)?, made(need[2], dv, v)?))
        })
    }
}
