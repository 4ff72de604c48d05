//! A frozen linear layer with a trained low-rank adapter.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply1, apply3, cast};

use super::linear::Sizes;
use super::mask::product;
use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind, with_last};
use crate::compose;
use crate::kernel::{
    FEW, Real, View, blocks, dots, matmul_into, multiplied, outer_sum, parallelism, spread,
    transposed,
};

/// Applies a frozen linear layer and its low-rank adapter.
///
/// Computes `x w^T + scale ((x * mask) a^T) b^T` for `x` `[.., in]`, `w` `[out, in]`, `a` `[r, in]`
/// and `b` `[out, r]`; the result is `[.., out]`. `mask`, of the shape of `x`, is the dropout of
/// the adapter's input, already multiplied by `1 / (1 - p)`. `w` and `mask` never get a gradient,
/// even when tracked; `x`, `a` and `b` get theirs if tracked. `a` and `b` may have another type
/// than `x`: they are rounded to the type of `x`, and their gradients keep their own type.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn lora_linear(
    x: &Tensor,
    w: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let sizes = Sizes::new("lora_linear", x, w)?;
    same_kind("lora_linear", &[a, b])?;
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
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        let shape = with_last(x, out);
        return crate::cuda::lora_linear(x, w, [a, b], scale, mask, (sizes, shape));
    }
    let (a, b) = (&cast(a, x.dtype())?, &cast(b, x.dtype())?);
    same_kind("lora_linear", &[x, a, b])?;
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
        apply3([&x, &a.contiguous()?, &b.contiguous()?], Adapted { base, inner: OnceLock::new() })
    } else {
        apply1(&x, FrozenAdapted { base, a: frozen(a)?, b: frozen(b)? })
    }
}

/// The captured operands of both forms.
struct Base {
    w: Tensor,
    mask: Option<Tensor>,
    sizes: Sizes,
    rank: usize,
    scale: f64,
    shape: Shape,
}

impl Base {
    /// The layer's output, and the adapter's inner activation `scale x a^T`.
    fn forward<T: Real>(&self, x: &[T], a: &[T], b: &[T]) -> Result<[Vec<T>; 2]> {
        let mut y = self.sizes.forward(x, flat(&self.w)?.slice()?);
        let mut u = match &self.mask {
            None => self.down(x, a, self.sizes.inner),
            Some(mask) => self.down(&product(x, flat(mask)?.slice()?), a, self.sizes.inner),
        };
        self.rescale(&mut u);
        self.up(&mut y, &u, &transposed(b, self.rank));
        Ok([y, u])
    }

    fn rescale<T: Real>(&self, u: &mut [T]) {
        let scale = T::of(self.scale);
        u.iter_mut().for_each(|u| *u *= scale);
    }

    /// `x m^T` for `m` `[r, width]`.
    fn down<T: Real>(&self, x: &[T], m: &[T], width: usize) -> Vec<T> {
        if width == 0 {
            return vec![T::ZERO; self.sizes.rows * self.rank];
        }
        match self.rank {
            ..=FEW => dots(x, m, self.rank, width),
            rank => {
                let m = View::new(m, rank, width).t();
                multiplied(T::ONE, View::new(x, self.sizes.rows, width), m)
            }
        }
    }

    /// Adds `u m` to `y`, for `m` `[r, width]`.
    fn up<T: Real>(&self, y: &mut [T], u: &[T], m: &[T]) {
        match self.rank {
            ..=FEW => spread(y, u, m, self.rank),
            rank => {
                let (rows, width) = (self.sizes.rows, m.len() / rank);
                let parallel = parallelism(rows * m.len());
                let (u, m) = (View::new(u, rows, rank), View::new(m, rank, width));
                matmul_into(y, true, T::ONE, u, m, parallel);
            }
        }
    }

    /// `p^T x` for `p` `[rows, r]` and `x` `[rows, width]`.
    fn outer<T: Real>(&self, p: &[T], x: &[T], width: usize) -> Vec<T> {
        match self.rank {
            ..=FEW => outer_sum(p, x, self.rank, width),
            rank => {
                let p = View::new(p, self.sizes.rows, rank).t();
                multiplied(T::ONE, p, View::new(x, self.sizes.rows, width))
            }
        }
    }

    /// The gradient of the adapter's unscaled inner activation, `scale dy b`.
    fn back_down<T: Real>(&self, dy: &[T], b: &[T]) -> Vec<T> {
        let mut du = self.down(dy, &transposed(b, self.rank), self.sizes.out);
        self.rescale(&mut du);
        du
    }

    /// The gradient of `x`: `dy w + (du a) * mask`.
    fn back_x<T: Real>(&self, dy: &[T], du: &[T], a: &[T]) -> Result<Vec<T>> {
        let mut dx = self.sizes.back_x(dy, flat(&self.w)?.slice()?);
        match &self.mask {
            None => self.up(&mut dx, du, a),
            Some(mask) => {
                let mut adapter = vec![T::ZERO; dx.len()];
                self.up(&mut adapter, du, a);
                let mask = flat(mask)?;
                let mask = mask.slice::<T>()?;
                blocks(
                    &mut dx,
                    1,
                    #[inline(always)]
                    |start, dx| {
                        let end = start + dx.len();
                        let terms = adapter[start..end].iter().zip(&mask[start..end]);
                        for (dx, (&adapter, &mask)) in dx.iter_mut().zip(terms) {
                            *dx += adapter * mask;
                        }
                    },
                );
            }
        }
        Ok(dx)
    }

    /// The gradient of `a`: `du^T (x * mask)`.
    fn back_a<T: Real>(&self, x: &[T], du: &[T]) -> Result<Vec<T>> {
        Ok(match &self.mask {
            None => self.outer(du, x, self.sizes.inner),
            Some(mask) => {
                let masked = product(x, flat(mask)?.slice()?);
                self.outer(du, &masked, self.sizes.inner)
            }
        })
    }

    /// The gradient of `b`: `dy^T u`, where `u` includes the scale.
    fn back_b<T: Real>(&self, dy: &[T], u: &[T]) -> Vec<T> {
        transposed(&self.outer(u, dy, self.sizes.out), self.sizes.out)
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
            let [y, _] = self.base.forward::<T>(elements(x, layout)?, a.slice()?, b.slice()?)?;
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
struct Adapted {
    base: Base,
    /// The adapter's inner activation `[rows, r]` with its scale, kept from the forward pass.
    inner: OnceLock<Tensor>,
}

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
            let [y, u] = self.base.forward(elements(x, x_layout)?, a, b)?;
            let u = gradient(u, &Shape::from((self.base.sizes.rows, self.base.rank)))?;
            // Each operation runs forward once, so the cell was empty.
            self.inner.get_or_init(|| u);
            Ok(output(y, &self.base.shape))
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
        by_dtype!(x.dtype(), T => {
            let (xs, aa, bb, dy) = (flat(x)?, flat(a)?, flat(b)?, flat(&dy)?);
            let (xs, aa, bb) = (xs.slice::<T>()?, aa.slice::<T>()?, bb.slice::<T>()?);
            let dy = dy.slice::<T>()?;
            let made = |needed: bool, values: &dyn Fn() -> Result<Vec<T>>, of: &Tensor| {
                needed.then(|| gradient(values()?, of.shape())).transpose()
            };
            let db = || match self.inner.get() {
                Some(u) => Ok(self.base.back_b(dy, flat(u)?.slice()?)),
                None => bail!("lora_linear: the backward pass ran before the forward pass"),
            };
            let db = made(b.track_op(), &db, b)?;
            let du = self.base.back_down(dy, bb);
            let da = made(a.track_op(), &|| self.base.back_a(xs, &du), a)?;
            let dx = made(x.track_op(), &|| self.base.back_x(dy, &du, aa), x)?;
            Ok((dx, da, db))
        })
    }
}
