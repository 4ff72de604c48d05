//! The matrix product of a linear layer.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply1, apply2};

use super::{
    Matrix, Weight, by_dtype, elements, flat, frozen, fused, gradient, output, rows_of, same_kind,
    with_last,
};
use crate::compose;
use crate::kernel::{Real, View, multiplied};

/// Applies a linear layer without bias: `x w^T`.
///
/// `x` is `[.., in]`, `w` is `[out, in]`, the result `[.., out]`. An untracked `w` is captured, so
/// that its gradient is not computed; likewise for `x`. A quantised `w` is frozen.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn linear<'a>(x: &Tensor, w: impl Into<Weight<'a>>) -> Result<Tensor> {
    of_which(x, w.into(), Values::Read)
}

/// The same layer for its gradients alone: the fused kernels return zeros.
///
/// # Errors
///
/// As [`linear`].
pub fn linear_unread<'a>(x: &Tensor, w: impl Into<Weight<'a>>) -> Result<Tensor> {
    of_which(x, w.into(), Values::Unread)
}

/// Whether the output of a layer is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// It is computed.
    Read,
    /// It is zero; the layer is recomputed for its gradients alone.
    Unread,
}

fn of_which(x: &Tensor, w: Weight<'_>, values: Values) -> Result<Tensor> {
    let sizes = Sizes::new("linear", x, w)?;
    let shape = with_last(x, sizes.out);
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::linear(x, w, sizes, shape);
    }
    match w {
        Weight::Dense(w) if !fused(x) => compose::linear(x, w),
        Weight::Dense(w) if w.track_op() => {
            apply2([&x.contiguous()?, &w.contiguous()?], Linear { sizes, shape, values })
        }
        Weight::Quantized(w) if !fused(x) => compose::linear(x, &w.dense(x.dtype())?),
        frozen => {
            apply1(&x.contiguous()?, FrozenLinear { w: frozen.held()?, sizes, shape, values })
        }
    }
}

/// Sizes of a linear layer: rows of `x`, columns of `x`, rows of `w`.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inner: usize,
    pub(crate) out: usize,
}

impl Sizes {
    /// Checks `x` `[.., in]` against `w` `[out, in]`.
    pub(super) fn new(op: &str, x: &Tensor, w: Weight<'_>) -> Result<Self> {
        match w {
            Weight::Dense(w) => same_kind(op, &[x, w])?,
            Weight::Quantized(w) => {
                same_kind(op, &[x])?;
                if !w.device().same_device(x.device()) {
                    bail!("{op}: operands on different devices");
                }
            }
        }
        let (rows, inner) = rows_of(op, x)?;
        match *w.dims() {
            [out, w_inner] if w_inner == inner => Ok(Self { rows, inner, out }),
            _ => bail!("{op}: x is {:?} but w is {:?}, not [out, {inner}]", x.dims(), w.dims()),
        }
    }

    /// `x w^T`.
    pub(super) fn forward<T: Real>(&self, x: &[T], w: &Matrix, values: Values) -> Result<Vec<T>> {
        match values {
            Values::Read => w.read(|w| self.product(x, w)),
            Values::Unread => Ok(self.unread()),
        }
    }

    fn product<T: Real>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let x = View::new(x, self.rows, self.inner);
        multiplied(T::ONE, x, View::new(w, self.out, self.inner).t())
    }

    fn unread<T: Real>(&self) -> Vec<T> {
        vec![T::ZERO; self.rows * self.out]
    }

    /// The gradient of `x`: `dy w`.
    pub(super) fn back_x<T: Real>(&self, dy: &[T], w: &[T]) -> Vec<T> {
        let dy = View::new(dy, self.rows, self.out);
        multiplied(T::ONE, dy, View::new(w, self.out, self.inner))
    }

    /// The gradient of `w`: `dy^T x`.
    pub(super) fn back_w<T: Real>(&self, dy: &[T], x: &[T]) -> Vec<T> {
        let dy = View::new(dy, self.rows, self.out).t();
        multiplied(T::ONE, dy, View::new(x, self.rows, self.inner))
    }
}

/// The layer with a captured weight.
struct FrozenLinear {
    w: Matrix,
    sizes: Sizes,
    shape: Shape,
    values: Values,
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let x = elements::<T>(x, layout)?;
            let y = self.sizes.forward(x, &self.w, self.values)?;
            Ok(output(y, &self.shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let dy = flat(&dy)?;
            let dy = dy.slice::<T>()?;
            let dx = self.w.read(|w| self.sizes.back_x(dy, w))?;
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}

/// The layer with a trained weight.
struct Linear {
    sizes: Sizes,
    shape: Shape,
    values: Values,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (x, w) = (elements::<T>(x, x_layout)?, elements(w, w_layout)?);
            let y = match self.values {
                Values::Read => self.sizes.product(x, w),
                Values::Unread => self.sizes.unread(),
            };
            Ok(output(y, &self.shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let dy = flat(&dy)?;
            let dy = dy.slice::<T>()?;
            let dx = if x.track_op() {
                let dx = self.sizes.back_x(dy, flat(w)?.slice()?);
                Some(gradient(dx, x.shape())?)
            } else {
                None
            };
            let dw = self.sizes.back_w(dy, flat(x)?.slice()?);
            Ok((dx, Some(gradient(dw, w.shape())?)))
        })
    }
}
