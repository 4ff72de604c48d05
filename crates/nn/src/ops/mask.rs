//! The product with a constant, such as a dropout mask.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::apply1;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::kernel::{Real, filled};

/// Multiplies by a mask of the same shape, which never gets a gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices differ.
pub fn masked(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    same_kind("masked", &[x, mask])?;
    if x.dims() != mask.dims() {
        bail!("masked: x is {:?} but the mask is {:?}", x.dims(), mask.dims());
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::masked(x, mask);
    }
    if !fused(x) {
        return x * mask.detach();
    }
    apply1(&x.contiguous()?, Masked(frozen(mask)?))
}

/// The element-wise product.
pub(super) fn product<T: Real>(x: &[T], y: &[T]) -> Vec<T> {
    filled(
        x.len(),
        1,
        #[inline(always)]
        |start, out| {
            let end = start + out.len();
            for (out, (&x, &y)) in out.iter_mut().zip(x[start..end].iter().zip(&y[start..end])) {
                *out = x * y;
            }
        },
    )
}

/// The operation with its mask.
struct Masked(Tensor);

impl CustomOp1 for Masked {
    fn name(&self) -> &'static str {
        "masked"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let y = product(elements::<T>(x, layout)?, flat(&self.0)?.slice()?);
            Ok(output(y, layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let dx = product::<T>(flat(&dy)?.slice()?, flat(&self.0)?.slice()?);
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}
