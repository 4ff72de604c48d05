//! Removes padding from rows, and restores it.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::apply1;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output};
use crate::compose;
use crate::kernel::Real;

/// Removes the padding.
///
/// `x` is `[B, T, H]`, with `lengths` real positions at the start of each batch row; the result is
/// `[1, N, H]`, the real positions of all rows in order. Operations on single positions then
/// compute the real ones only; [`padded`] restores the padding.
///
/// # Errors
///
/// When `x` does not have three dimensions, or the lengths do not match it.
pub fn packed(x: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (batch, len, width) = x.dims3()?;
    if lengths.len() != batch || lengths.iter().any(|&length| length > len) {
        bail!("packed: lengths {lengths:?} for x {:?}", x.dims());
    }
    if !fused(x) {
        return compose::packed(x, lengths);
    }
    let shape = Shape::from((1, lengths.iter().sum::<usize>(), width));
    let rows = Rows { lengths: lengths.to_vec(), len, width };
    apply1(&x.contiguous()?, Packed { rows, back: false, shape })
}

/// Restores the padding: from `[1, N, H]`, the result of [`packed`], to `[B, T, H]` of `len`
/// positions, zero at padding.
///
/// # Errors
///
/// When the lengths are not those of `x`, or one exceeds `len`.
pub fn padded(x: &Tensor, lengths: &[usize], len: usize) -> Result<Tensor> {
    let (one, rows, width) = x.dims3()?;
    if one != 1
        || rows != lengths.iter().sum::<usize>()
        || lengths.iter().any(|&length| length > len)
    {
        bail!("padded: lengths {lengths:?}, of {len} at most, for x {:?}", x.dims());
    }
    if !fused(x) {
        return compose::padded(x, lengths, len);
    }
    let shape = Shape::from((lengths.len(), len, width));
    let rows = Rows { lengths: lengths.to_vec(), len, width };
    apply1(&x.contiguous()?, Packed { rows, back: true, shape })
}

/// The real positions.
struct Rows {
    lengths: Vec<usize>,
    len: usize,
    width: usize,
}

impl Rows {
    fn pack<T: Real>(&self, x: &[T]) -> Vec<T> {
        let mut out = Vec::with_capacity(self.lengths.iter().sum::<usize>() * self.width);
        for (row, length) in self.lengths.iter().enumerate() {
            let start = row * self.len * self.width;
            out.extend_from_slice(&x[start..start + length * self.width]);
        }
        out
    }

    fn pad<T: Real>(&self, x: &[T]) -> Vec<T> {
        let row = self.len * self.width;
        let mut out = Vec::with_capacity(self.lengths.len() * row);
        let mut left = x;
        for (index, length) in self.lengths.iter().enumerate() {
            let (real, rest) = left.split_at(length * self.width);
            left = rest;
            out.extend_from_slice(real);
            out.resize((index + 1) * row, T::ZERO);
        }
        out
    }
}

/// Both directions; either is the other's transpose.
struct Packed {
    rows: Rows,
    /// Whether padding is restored, not removed.
    back: bool,
    shape: Shape,
}

impl CustomOp1 for Packed {
    fn name(&self) -> &'static str {
        "packed"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let x = elements::<T>(x, layout)?;
            let y = if self.back { self.rows.pad(x) } else { self.rows.pack(x) };
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
            let dx = if self.back { self.rows.pack(dy) } else { self.rows.pad(dy) };
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}
