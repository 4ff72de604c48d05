//! The gated activation of a Llama feed-forward block.

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
    apply2([&gate.contiguous()?, &up.contiguous()?], Swiglu)
}

/// The operation; it has no settings.
struct Swiglu;

/// The gradient of `gate` at one element, without the factor `dy`; `s` is the sigmoid.
#[inline(always)]
fn slope<T: Real>(gate: T, s: T, up: T) -> T {
    up * s * (T::ONE + gate * (T::ONE - s))
}

fn forward<T: Real>(gate: &[T], up: &[T]) -> Vec<T> {
    filled(
        gate.len(),
        1,
        #[inline(always)]
        |start, y| {
            for (y, (&gate, &up)) in y.iter_mut().zip(gate[start..].iter().zip(&up[start..])) {
                *y = gate * gate.sigmoid() * up;
            }
        },
    )
}

fn backward<T: Real>(gate: &[T], up: &[T], dy: &[T]) -> (Vec<T>, Vec<T>) {
    filled2(
        gate.len(),
        #[inline(always)]
        |start, dgate, dup| {
            let operands = gate[start..].iter().zip(&up[start..]).zip(&dy[start..]);
            for ((dgate, dup), ((&gate, &up), &dy)) in dgate.iter_mut().zip(dup).zip(operands) {
                let s = gate.sigmoid();
                *dgate = dy * slope(gate, s, up);
                *dup = dy * gate * s;
            }
        },
    )
}

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
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
            Ok(output(forward(gate, up), layout.shape()))
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
            let (dgate, dup) = backward::<T>(g.slice()?, u.slice()?, dy.slice()?);
            let dgate = gradient(dgate, gate.shape())?;
            let dup = gradient(dup, up.shape())?;
            Ok((gate.track_op().then_some(dgate), up.track_op().then_some(dup)))
        })
    }
}
