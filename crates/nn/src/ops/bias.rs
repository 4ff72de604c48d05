//! The addition of a bias to every row.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply1, apply2};

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, rows_of, same_kind};
use crate::compose;
use crate::kernel::{Real, add_scaled, blocks, sum_over_rows};

/// Adds a bias to every row: `x` is `[.., H]`, `bias` is `[H]`, the result has the shape of `x`.
///
/// An untracked `bias` is captured and gets no gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    same_kind("add_bias", &[x, bias])?;
    let (_, width) = rows_of("add_bias", x)?;
    if bias.dims() != [width] {
        bail!("add_bias: x is {:?} but the bias is {:?}, not [{width}]", x.dims(), bias.dims());
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::add_bias(x, bias);
    }
    if !fused(x) {
        return compose::add_bias(x, bias);
    }
    let x = x.contiguous()?;
    if bias.track_op() {
        apply2([&x, &bias.contiguous()?], Bias)
    } else {
        apply1(&x, FrozenBias(frozen(bias)?))
    }
}

fn forward<T: Real>(x: &[T], bias: &[T]) -> Vec<T> {
    let mut y = x.to_vec();
    blocks(
        &mut y,
        bias.len(),
        #[inline(always)]
        |_, y| {
            y.chunks_exact_mut(bias.len()).for_each(|y| add_scaled(y, T::ONE, bias));
        },
    );
    y
}

/// The addition of a captured bias: gradients pass through unchanged.
struct FrozenBias(Tensor);

impl CustomOp1 for FrozenBias {
    fn name(&self) -> &'static str {
        "frozen-bias"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(self.0.dtype(), T => {
            let bias = flat(&self.0)?;
            let y = forward::<T>(elements(x, layout)?, bias.slice()?);
            Ok(output(y, layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(if x.track_op() { Some(frozen(dy)?) } else { None })
    }
}

/// The addition of a trained bias, whose gradient is the sum over rows.
struct Bias;

impl CustomOp2 for Bias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (x, bias) = (elements::<T>(x, layout)?, elements(bias, bias_layout)?);
            Ok(output(forward(x, bias), layout.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        let (rows, width) = rows_of("add_bias", &dy)?;
        let dbias = by_dtype!(x.dtype(), T => {
            let dy = flat(&dy)?;
            let dy = dy.slice::<T>()?;
            let sum = sum_over_rows(rows, width, #[inline(always)] |row, sum| {
                add_scaled(sum, T::ONE, &dy[row * width..(row + 1) * width]);
            });
            gradient(sum, bias.shape())?
        });
        Ok((x.track_op().then_some(dy), Some(dbias)))
    }
}
