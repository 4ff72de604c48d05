//! Normalisation of rows: by the root mean square, and by mean and deviation.

use candle_core::{CudaStorage, DType, Result};

use crate::buffer::{Operand, allocate};
use crate::launch::{Launch, NORM, THREADS};
use crate::reduce::{ROWS, column_sums};

/// Launches a kernel that makes one row with each block: `operands`, and then what it makes.
fn by_rows<const N: usize>(
    name: &str,
    operands: [Operand<'_>; N],
    width: usize,
    eps: f64,
) -> Result<CudaStorage> {
    let x = operands[0];
    let made = allocate(x.device(), x.dtype(), x.count())?;
    Launch::of(x.device(), NORM, name, x.dtype())?
        .buffers(operands)?
        .buffer(Operand::whole(&made, x.count()))?
        .sizes([width])?
        .single(eps)
        .grid([x.count() / width, 1, 1], THREADS, 0)?;
    Ok(made)
}

/// Sums over the rows of blocks of rows, and then over the blocks.
fn over_rows(
    name: &str,
    x: Operand<'_>,
    dy: Operand<'_>,
    width: usize,
    eps: f64,
) -> Result<CudaStorage> {
    let rows = x.count() / width;
    let blocks = rows.div_ceil(ROWS);
    let partial = allocate(x.device(), DType::F32, blocks * width)?;
    let partial = Operand::whole(&partial, blocks * width);
    Launch::of(x.device(), NORM, name, x.dtype())?
        .buffers([x, dy, partial])?
        .sizes([rows, width, ROWS])?
        .single(eps)
        .grid([blocks, 1, 1], THREADS, 0)?;
    column_sums(partial, width, x.dtype())
}

/// `x gain / sqrt(mean(x^2) + eps)` for each row of `gain`'s length.
///
/// # Errors
/// When a launch fails.
pub fn rms_norm(x: Operand<'_>, gain: Operand<'_>, eps: f64) -> Result<CudaStorage> {
    by_rows("rms_norm", [x, gain], gain.count(), eps)
}

/// `x + z`, and [`rms_norm`] of it.
///
/// # Errors
/// When a launch fails.
pub fn add_rms_norm(
    x: Operand<'_>,
    z: Operand<'_>,
    gain: Operand<'_>,
    eps: f64,
) -> Result<[CudaStorage; 2]> {
    let (device, dtype, count) = (x.device(), x.dtype(), x.count());
    let (sum, norm) = (allocate(device, dtype, count)?, allocate(device, dtype, count)?);
    Launch::of(device, NORM, "add_rms_norm", dtype)?
        .buffers([x, z, gain, Operand::whole(&sum, count), Operand::whole(&norm, count)])?
        .sizes([gain.count()])?
        .single(eps)
        .grid([count / gain.count(), 1, 1], THREADS, 0)?;
    Ok([sum, norm])
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
    by_rows("rms_norm_back_x", [x, gain, dy], gain.count(), eps)
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
    over_rows("rms_norm_back_gain", x, dy, width, eps)
}

/// `(x - mean(x)) gain / sqrt(var(x) + eps) + bias` for each row of `gain`'s length.
///
/// # Errors
/// When a launch fails.
pub fn layer_norm(
    x: Operand<'_>,
    gain: Operand<'_>,
    bias: Operand<'_>,
    eps: f64,
) -> Result<CudaStorage> {
    by_rows("layer_norm", [x, gain, bias], gain.count(), eps)
}

/// The gradient of `x`.
///
/// # Errors
/// When a launch fails.
pub fn layer_norm_back_x(
    x: Operand<'_>,
    gain: Operand<'_>,
    dy: Operand<'_>,
    eps: f64,
) -> Result<CudaStorage> {
    by_rows("layer_norm_back_x", [x, gain, dy], gain.count(), eps)
}

/// The gradient of a gain `[width]`.
///
/// # Errors
/// When a launch fails.
pub fn layer_norm_back_gain(
    x: Operand<'_>,
    dy: Operand<'_>,
    width: usize,
    eps: f64,
) -> Result<CudaStorage> {
    over_rows("layer_norm_back_gain", x, dy, width, eps)
}
