//! A frozen linear layer with a trained low-rank adapter.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use vxf_core::autograd::{apply1, apply3};

use super::linear::Sizes;
use super::mask::product;
use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind, with_last};
use crate::compose;
use crate::kernel::{Real, View, blocks, matmul_into, multiplied, parallelism};

/// Applies a frozen linear layer and its low-rank adapter.
///
/// Computes `x w^T + scale ((x * mask) a^T) b^T` for `x` `[.., in]`, `w` `[out, in]`, `a`
/// `[r, in]` and `b` `[out, r]`; the result is `[.., out]`. `mask`, of the shape of `x`, is the
/// dropout of the adapter's input, already multiplied by `1 / (1 - p)`. `w` and `mask` never get
/// a gradient, even when tracked; `x`, `a` and `b` get theirs if tracked.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not fit each other.
pub fn lora_linear(
    x: &Tensor,
    w: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let sizes = Sizes::new("lora_linear", x, w)?;
    same_kind("lora_linear", &[x, a, b])?;
    let Sizes { inner, out, .. } = sizes;
    let rank = match (a.dims(), b.dims()) {
        (&[rank, a_inner], &[b_out, b_rank])
            if a_inner == inner && b_out == out && b_rank == rank =>
        {
            rank
        }
        (a, b) => bail!(
            "lora_linear: a is {a:?} and b is {b:?}, not [r, {inner}] and [{out}, r], for x {:?}",
            x.dims()
        ),
    };
    if let Some(mask) = mask {
        same_kind("lora_linear", &[x, mask])?;
        if mask.dims() != x.dims() {
            bail!("lora_linear: the mask is {:?} but x is {:?}", mask.dims(), x.dims());
        }
    }
    if !fused(x) {
        return compose::lora_linear(x, &w.detach(), a, b, scale, mask);
    }
    let x = x.contiguous()?;
    let base = Base {
        w: frozen(w)?,
        mask: mask.map(frozen).transpose()?,
        sizes,
        rank,
        scale,
        shape: with_last(&x, out),
    };
    if a.track_op() || b.track_op() {
        apply3([&x, &a.contiguous()?, &b.contiguous()?], Adapted(base))
    } else {
        apply1(&x, FrozenAdapted { base, a: frozen(a)?, b: frozen(b)? })
    }
}

/// What both forms of the operation capture.
struct Base {
    w: Tensor,
    mask: Option<Tensor>,
    sizes: Sizes,
    rank: usize,
    scale: f64,
    shape: Shape,
}

impl Base {
    fn forward<T: Real>(&self, x: &[T], a: &[T], b: &[T]) -> Result<Vec<T>> {
        let Sizes { rows, out, .. } = self.sizes;
        let mut y = self.sizes.forward(x, flat(&self.w)?.slice()?);
        let u = match &self.mask {
            None => self.down(x, a),
            Some(mask) => self.down(&product(x, flat(mask)?.slice()?), a),
        };
        let (u, b) = (View::new(&u, rows, self.rank), View::new(b, out, self.rank).t());
        let parallel = parallelism(rows * out * self.rank);
        matmul_into(&mut y, true, T::of(self.scale), u, b, parallel);
        Ok(y)
    }

    /// The adapter's inner activation `x a^T`.
    fn down<T: Real>(&self, x: &[T], a: &[T]) -> Vec<T> {
        let Sizes { rows, inner, .. } = self.sizes;
        multiplied(T::ONE, View::new(x, rows, inner), View::new(a, self.rank, inner).t())
    }

    /// The gradient of the adapter's inner activation, `scale dy b`.
    fn back_down<T: Real>(&self, dy: &[T], b: &[T]) -> Vec<T> {
        let Sizes { rows, out, .. } = self.sizes;
        multiplied(T::of(self.scale), View::new(dy, rows, out), View::new(b, out, self.rank))
    }

    /// The gradient of `x`: `dy w + (du a) * mask`.
    fn back_x<T: Real>(&self, dy: &[T], du: &[T], a: &[T]) -> Result<Vec<T>> {
        let Sizes { rows, inner, .. } = self.sizes;
        let mut dx = self.sizes.back_x(dy, flat(&self.w)?.slice()?);
        let (du, a) = (View::new(du, rows, self.rank), View::new(a, self.rank, inner));
        match &self.mask {
            None => {
                let parallel = parallelism(rows * inner * self.rank);
                matmul_into(&mut dx, true, T::ONE, du, a, parallel);
            }
            Some(mask) => {
                let adapter = multiplied(T::ONE, du, a);
                let mask = flat(mask)?;
                let mask = mask.slice::<T>()?;
                blocks(&mut dx, 1, |start, dx| {
                    let end = start + dx.len();
                    let terms = adapter[start..end].iter().zip(&mask[start..end]);
                    for (dx, (&adapter, &mask)) in dx.iter_mut().zip(terms) {
                        *dx += adapter * mask;
                    }
                });
            }
        }
        Ok(dx)
    }

    /// The gradients of `a` and `b`: `du^T (x * mask)` and `scale dy^T u`.
    fn back_adapter<T: Real>(
        &self,
        (x, a): (&[T], &[T]),
        (dy, du): (&[T], &[T]),
        (need_a, need_b): (bool, bool),
    ) -> Result<(Vec<T>, Vec<T>)> {
        let Sizes { rows, inner, out } = self.sizes;
        let masked;
        let x = match &self.mask {
            None => x,
            Some(mask) => {
                masked = product(x, flat(mask)?.slice()?);
                &masked
            }
        };
        let mut da = Vec::new();
        if need_a {
            let du = View::new(du, rows, self.rank).t();
            da = multiplied(T::ONE, du, View::new(x, rows, inner));
        }
        let mut db = Vec::new();
        if need_b {
            // Made again rather than kept: r columns cost little beside the layer's own product.
            let u = self.down(x, a);
            let (dy, u) = (View::new(dy, rows, out).t(), View::new(&u, rows, self.rank));
            db = multiplied(T::of(self.scale), dy, u);
        }
        Ok((da, db))
    }
}

/// The layer with a captured adapter: only the gradient of `x`.
struct FrozenAdapted {
    base: Base,
    a: Tensor,
    b: Tensor,
}

impl CustomOp1 for FrozenAdapted {
    fn name(&self) -> &'static str {
        "frozen-lora-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (a, b) = (flat(&self.a)?, flat(&self.b)?);
            let y = self.base.forward::<T>(elements(x, layout)?, a.slice()?, b.slice()?)?;
            Ok(output(y, &self.base.shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (a, b, dy) = (flat(&self.a)?, flat(&self.b)?, flat(&dy)?);
            let dy = dy.slice::<T>()?;
            let du = self.base.back_down(dy, b.slice()?);
            let dx = self.base.back_x(dy, &du, a.slice()?)?;
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}

/// The layer with a trained adapter.
struct Adapted(Base);

impl CustomOp3 for Adapted {
    fn name(&self) -> &'static str {
        "lora-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (a, b) = (elements::<T>(a, a_layout)?, elements(b, b_layout)?);
            let y = self.0.forward(elements(x, x_layout)?, a, b)?;
            Ok(output(y, &self.0.shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        let need = (a.track_op(), b.track_op());
        by_dtype!(x.dtype(), T => {
            let (xs, aa, bb, dy) = (flat(x)?, flat(a)?, flat(b)?, flat(&dy)?);
            let (xs, aa, bb) = (xs.slice::<T>()?, aa.slice::<T>()?, bb.slice::<T>()?);
            let dy = dy.slice::<T>()?;
            let du = self.0.back_down(dy, bb);
            let (da, db) = self.0.back_adapter((xs, aa), (dy, &du), need)?;
            let dx = match x.track_op() {
                true => Some(gradient(self.0.back_x(dy, &du, aa)?, x.shape())?),
                false => None,
            };
            let da = if need.0 { Some(gradient(da, a.shape())?) } else { None };
            let db = if need.1 { Some(gradient(db, b.shape())?) } else { None };
            Ok((dx, da, db))
        })
    }
}
