//! The distance of two samples of vectors: the maximum mean discrepancy with Gaussian kernels.

use candle_core::{D, DType, Tensor};
use vxf_core::Result;

/// The number of kernels; each is twice as wide as the one before.
const KERNELS: i32 = 5;

/// `mean(k(x, x') + k(y, y') - k(x, y') - k(y, x'))` for the rows of `x` and `y`, `[samples, width]` each.
///
/// k is a sum of five Gaussian kernels `exp(-d^2 / b)`. The middle width b is the mean squared distance of two
/// different rows of both, which has no gradient.
pub(crate) fn discrepancy(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let own = x.dim(0)?;
    let all = Tensor::cat(&[x, y], 0)?;
    let lengths = all.sqr()?.sum_keepdim(D::Minus1)?;
    let products = all.matmul(&all.t()?)?;
    let distances = lengths.broadcast_add(&lengths.t()?)?.sub(&(products * 2.0)?)?;
    let rows = (2 * own) as f64;
    let sum = distances.detach().sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    let middle = sum / (rows * rows - rows);
    let mut kernel: Option<Tensor> = None;
    for index in 0..KERNELS {
        // Rows that are all equal have no distance, and every kernel is one.
        let width = (middle * 2f64.powi(index - KERNELS / 2)).max(f64::MIN_POSITIVE);
        let own = (&distances * (-1.0 / width))?.exp()?;
        kernel = Some(match kernel {
            Some(kernel) => (kernel + own)?,
            None => own,
        });
    }
    let kernel = kernel.map_or_else(|| distances.zeros_like(), Ok)?;
    let part = |row: usize, column: usize| -> Result<Tensor> {
        Ok(kernel.narrow(0, row, own)?.narrow(1, column, own)?)
    };
    let within = (part(0, 0)? + part(own, own)?)?;
    let between = (part(0, own)? + part(own, 0)?)?;
    Ok((within - between)?.mean_all()?)
}
