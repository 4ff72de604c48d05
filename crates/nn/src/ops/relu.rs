//! The rectifier.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use vxf_tensor::autograd::apply1;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::compose;
use crate::kernel::{Real, filled};

/// Replaces negative elements by zero; the gradient at zero is zero, as in PyTorch.
///
/// # Errors
///
/// When `x` is not of a floating-point dtype.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    same_kind("relu", &[x])?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::relu(x);
    }
    if !fused(x) {
        return compose::relu(x);
    }
    apply1(&x.contiguous()?, Relu)
}

/// `values` where `x` is positive or NaN, zero elsewhere.
fn where_positive<T: Real>(x: &[T], values: &[T]) -> Vec<T> {
    filled(
        x.len(),
        1,
        #[inline(always)]
        |start, y| {
            for (y, (&x, &value)) in y.iter_mut().zip(x[start..].iter().zip(&values[start..])) {
                *y = if x <= T::ZERO { T::ZERO } else { value };
            }
        },
    )
}

/// The operation; it has no settings.
struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(candle_core::backend::BackendStorage::dtype(x), T => {
            let x = elements::<T>(x, layout)?;
            Ok(output(where_positive(x, x), layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (xs, dy) = (flat(x)?, flat(&dy)?);
            Ok(Some(gradient(where_positive::<T>(xs.slice()?, dy.slice()?), x.shape())?))
        })
    }
}
