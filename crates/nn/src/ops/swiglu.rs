//! The gated activations of feed-forward blocks: `gate sigmoid(z) up`.
//!
//! With `z = gate` this is SwiGLU. With `z = sqrt(8 / pi) (gate + 0.044715 gate^3)` it is GeGLU in its
//! tanh form, because `(1 + tanh(u)) / 2 = sigmoid(2 u)`.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply1, apply2};

use super::{
    by_dtype, elements, flat, frozen, fused, gradient, output, rows_of, same_kind, with_last,
};
use crate::compose;
use crate::kernel::{Real, filled, filled2};

/// Multiplies `up` by the sigmoid-weighted `gate`: `gate sigmoid(gate) up`.
///
/// Both operands and the result have the same shape.
///
/// # Errors
///
/// When the shapes, dtypes or devices differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    same_kind("swiglu", &[gate, up])?;
    if gate.dims() != up.dims() {
        bail!("swiglu: gate is {:?} but up is {:?}", gate.dims(), up.dims());
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(gate) {
        return crate::cuda::swiglu(gate, up);
    }
    if !fused(gate) {
        return compose::swiglu(gate, up);
    }
    apply2([&gate.contiguous()?, &up.contiguous()?], Gated::<false>)
}

/// The same for one tensor: `x` `[.., 2 H]` holds `gate` and `up` side by side; the result is `[.., H]`.
///
/// # Errors
///
/// When the last size is odd, or `x` has no floating-point dtype.
pub fn swiglu_joint(x: &Tensor) -> Result<Tensor> {
    same_kind("swiglu", &[x])?;
    let (_, both) = rows_of("swiglu", x)?;
    if both % 2 != 0 {
        bail!("swiglu: gate and up in {both} columns (x {:?})", x.dims());
    }
    if !fused(x) {
        return compose::swiglu_joint(x);
    }
    apply1(&x.contiguous()?, Joint { width: both / 2, shape: with_last(x, both / 2) })
}

/// Multiplies `up` by the GELU of `gate` in its tanh form (`gelu_pytorch_tanh`).
///
/// Both operands and the result have the same shape.
///
/// # Errors
///
/// When the shapes, dtypes or devices differ.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    same_kind("geglu", &[gate, up])?;
    if gate.dims() != up.dims() {
        bail!("geglu: gate is {:?} but up is {:?}", gate.dims(), up.dims());
    }
    if !fused(gate) {
        return compose::geglu(gate, up);
    }
    apply2([&gate.contiguous()?, &up.contiguous()?], Gated::<true>)
}

/// The operation: GeGLU or SwiGLU.
struct Gated<const GELU: bool>;

/// `sqrt(8 / pi)`.
const ROOT: f64 = 1.595_769_121_605_730_7;
/// The factor of the cube.
const CUBE: f64 = 0.044_715;

/// The argument of the sigmoid.
#[inline(always)]
fn argument<T: Real, const GELU: bool>(gate: T) -> T {
    match GELU {
        true => T::from_f64(ROOT) * gate * (T::ONE + T::from_f64(CUBE) * gate * gate),
        false => gate,
    }
}

/// SwiGLU of one operand.
struct Joint {
    width: usize,
    shape: Shape,
}

impl Joint {
    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        let width = self.width;
        filled(
            x.len() / 2,
            width,
            #[inline(always)]
            |first, y| {
                let rows = x[2 * first * width..].chunks_exact(2 * width);
                for (y, x) in y.chunks_exact_mut(width).zip(rows) {
                    let (gate, up) = x.split_at(width);
                    for (y, (&gate, &up)) in y.iter_mut().zip(gate.iter().zip(up)) {
                        *y = gate * gate.sigmoid() * up;
                    }
                }
            },
        )
    }

    fn backward<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        let width = self.width;
        filled(
            x.len(),
            2 * width,
            #[inline(always)]
            |first, dx| {
                let rows = x[2 * first * width..].chunks_exact(2 * width);
                let rows = rows.zip(dy[first * width..].chunks_exact(width));
                for (dx, (x, dy)) in dx.chunks_exact_mut(2 * width).zip(rows) {
                    let ((dgate, dup), (gate, up)) = (dx.split_at_mut(width), x.split_at(width));
                    let operands = gate.iter().zip(up).zip(dy);
                    for ((dgate, dup), ((&gate, &up), &dy)) in
                        dgate.iter_mut().zip(dup).zip(operands)
                    {
                        let s = gate.sigmoid();
                        *dgate = dy * slope::<T, false>(gate, s, up);
                        *dup = dy * gate * s;
                    }
                }
            },
        )
    }
}

impl CustomOp1 for Joint {
    fn name(&self) -> &'static str {
        "swiglu-joint"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            Ok(output(self.forward(elements::<T>(x, layout)?), &self.shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let dx = self.backward::<T>(flat(x)?.slice()?, flat(&dy)?.slice()?);
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}

/// The gradient of `gate` at one element, short of `dy`; `s` is the sigmoid.
#[inline(always)]
fn slope<T: Real, const GELU: bool>(gate: T, s: T, up: T) -> T {
    let inner = gate * (T::ONE - s);
    let inner = match GELU {
        true => inner * T::from_f64(ROOT) * (T::ONE + T::from_f64(3.0 * CUBE) * gate * gate),
        false => inner,
    };
    up * s * (T::ONE + inner)
}

fn forward<T: Real, const GELU: bool>(gate: &[T], up: &[T]) -> Vec<T> {
    filled(
        gate.len(),
        1,
        #[inline(always)]
        |start, y| {
            for (y, (&gate, &up)) in y.iter_mut().zip(gate[start..].iter().zip(&up[start..])) {
                *y = gate * argument::<T, GELU>(gate).sigmoid() * up;
            }
        },
    )
}

fn backward<T: Real, const GELU: bool>(gate: &[T], up: &[T], dy: &[T]) -> (Vec<T>, Vec<T>) {
    filled2(
        gate.len(),
        #[inline(always)]
        |start, dgate, dup| {
            let operands = gate[start..].iter().zip(&up[start..]).zip(&dy[start..]);
            for ((dgate, dup), ((&gate, &up), &dy)) in dgate.iter_mut().zip(dup).zip(operands) {
                let s = argument::<T, GELU>(gate).sigmoid();
                *dgate = dy * slope::<T, GELU>(gate, s, up);
                *dup = dy * gate * s;
            }
        },
    )
}

impl<const GELU: bool> CustomOp2 for Gated<GELU> {
    fn name(&self) -> &'static str {
        if GELU { "geglu" } else { "swiglu" }
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(gate.dtype(), T => {
            let (gate, up) = (elements::<T>(gate, layout)?, elements(up, up_layout)?);
            Ok(output(forward::<T, GELU>(gate, up), layout.shape()))
        })
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        by_dtype!(gate.dtype(), T => {
            let (g, u, dy) = (flat(gate)?, flat(up)?, flat(&dy)?);
            // Both are computed even if one is dropped, because the sigmoid is the main cost.
            let (dgate, dup) = backward::<T, GELU>(g.slice()?, u.slice()?, dy.slice()?);
            let dgate = gradient(dgate, gate.shape())?;
            let dup = gradient(dup, up.shape())?;
            Ok((gate.track_op().then_some(dgate), up.track_op().then_some(dup)))
        })
    }
}
