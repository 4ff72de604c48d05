//! The gated activations of feed-forward blocks: `gate sigmoid(z) up`.
//!
//! With `z = gate` this is SwiGLU. With `z = sqrt(8 / pi) (gate + 0.044715 gate^3)` it is GeGLU in its
//! tanh form, because `(1 + tanh(u)) / 2 = sigmoid(2 u)`.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::apply2;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
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

/// The gradient of `gate` at one element, without the factor `dy`; `s` is the sigmoid.
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
