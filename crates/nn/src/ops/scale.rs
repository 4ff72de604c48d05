//! A product with a number.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use vxf_tensor::autograd::apply1;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::kernel::{Real, filled};

/// `factor * x`.
///
/// # Errors
///
/// When `x` is not of a floating-point dtype.
pub fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    same_kind("scaled", &[x])?;
    if !fused(x) {
        return x * factor;
    }
    apply1(&x.contiguous()?, Scaled(factor))
}

/// The operation, with its factor.
struct Scaled(f64);

fn product<T: Real>(x: &[T], factor: f64) -> Vec<T> {
    let factor = T::from_f64(factor);
    filled(
        x.len(),
        1,
        #[inline(always)]
        |start, y| {
            for (y, &x) in y.iter_mut().zip(&x[start..]) {
                *y = factor * x;
            }
        },
    )
}

impl CustomOp1 for Scaled {
    fn name(&self) -> &'static str {
        "scaled"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(candle_core::backend::BackendStorage::dtype(x), T => {
            let x = elements::<T>(x, layout)?;
            Ok(output(product(x, self.0), layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let dy = flat(&dy)?;
            Ok(Some(gradient(product::<T>(dy.slice()?, self.0), x.shape())?))
        })
    }
}
