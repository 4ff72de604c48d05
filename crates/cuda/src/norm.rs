//! Root-mean-square normalisation.

use candle_core::{CudaStorage, DType, Result};

use crate::buffer::{Operand, allocate};
use crate::launch::{Launch, RMS_NORM, THREADS};

/// `x gain / sqrt(mean(x^2) + eps)` for each row of `gain`'s length.
///
/// # Errors
/// When a launch fails.
pub fn rms_norm(x: Operand<'_>, gain: Operand<'_>, eps: f64) -> Result<CudaStorage> {
    let y = allocate(x.device(), x.dtype(), x.count())?;
    let width = gain.count();
    Launch::of(x.device(), RMS_NORM, "rms_norm", x.dtype())?
        .buffers([x, gain, Operand::whole(&y, x.count())])?
        .sizes([width])?
        .single(eps)
        .grid([x.count() / width, 1, 1], THREADS, 0)?;
    Ok(y)
}

/// The gradient of `x`.
///
/// # Errors
/// When a launch fails.
pub fn rms_norm_back_x(
    x: Operand<'_>,
    gain: Operand<'_>,
    dy: Operand<'_>,
    eps: f64,
) -> Result<CudaStorage> {
    let dx = allocate(x.device(), x.dtype(), x.count())?;
    let width = gain.count();
    Launch::of(x.device(), RMS_NORM, "rms_norm_back_x", x.dtype())?
        .buffers([x, gain, dy, Operand::whole(&dx, x.count())])?
        .sizes([width])?
        .single(eps)
        .grid([x.count() / width, 1, 1], THREADS, 0)?;
    Ok(dx)
}

/// The gradient of a gain `[width]`.
///
/// # Errors
/// When a launch fails.
pub fn rms_norm_back_gain(
    x: Operand<'_>,
    dy: Operand<'_>,
    width: usize,
    eps: f64,
) -> Result<CudaStorage> {
    /// Rows per partial sum.
    const ROWS: usize = 32;
    let rows = x.count() / width;
    let blocks = rows.div_ceil(ROWS);
    let partial = allocate(x.device(), DType::F32, blocks * width)?;
    let partial = Operand::whole(&partial, blocks * width);
    Launch::of(x.device(), RMS_NORM, "rms_norm_back_gain", x.dtype())?
        .buffers([x, dy, partial])?
        .sizes([rows, width, ROWS])?
        .single(eps)
        .grid([blocks, 1, 1], THREADS, 0)?;
    let sum = allocate(x.device(), x.dtype(), width)?;
    Launch::of(x.device(), RMS_NORM, "column_sums", x.dtype())?
        .buffers([partial, Operand::whole(&sum, width)])?
        .sizes([blocks, width])?
        .grid([width.div_ceil(THREADS), 1, 1], THREADS, 0)?;
    Ok(sum)
}
