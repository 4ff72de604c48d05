//! Cross-entropy of logits, a few rows at a time.

use candle_core::{CudaStorage, DType, Result};

use crate::buffer::{Operand, allocate};
use crate::launch::{CROSS_ENTROPY, Launch, THREADS};

/// Writes the losses of the rows of `logits` `[rows, vocabulary]`, `f32`, to `losses` from index
/// `first`, with the classes from the same index of `classes`. If requested, returns the rows'
/// gradients in the given type, times the given share.
///
/// # Errors
/// When a launch fails.
pub fn cross_entropy(
    logits: Operand<'_>,
    classes: Operand<'_>,
    losses: Operand<'_>,
    first: usize,
    (rows, vocabulary): (usize, usize),
    gradients: Option<(DType, f64)>,
) -> Result<Option<CudaStorage>> {
    let (dtype, share) = gradients.unwrap_or((DType::F32, 0.0));
    let device = logits.device();
    let slopes = gradients.map(|_| allocate(device, dtype, rows * vocabulary)).transpose()?;
    let launch = Launch::of(device, CROSS_ENTROPY, "cross_entropy", dtype)?
        .buffer(logits)?
        .at_offset(classes, first, size_of::<u32>())?;
    let launch = match &slopes {
        Some(slopes) => launch.buffer(Operand::whole(slopes, rows * vocabulary))?,
        None => launch.null(),
    };
    launch
        .at_offset(losses, first, size_of::<f32>())?
        .sizes([vocabulary])?
        .single(share)
        .flag(gradients.is_some())
        .grid([rows, 1, 1], THREADS, 0)?;
    Ok(slopes)
}

/// Gathers the rows of `x` `[.., width]` at `count` indices from position `first` of `rows`.
///
/// # Errors
/// When a launch fails.
pub fn gathered(
    x: Operand<'_>,
    rows: Operand<'_>,
    first: usize,
    (count, width): (usize, usize),
) -> Result<CudaStorage> {
    let y = allocate(x.device(), x.dtype(), count * width)?;
    Launch::of(x.device(), CROSS_ENTROPY, "gather_rows", x.dtype())?
        .buffer(x)?
        .at_offset(rows, first, size_of::<u32>())?
        .buffer(Operand::whole(&y, count * width))?
        .sizes([count, width])?
        .grid([count, 1, 1], THREADS, 0)?;
    Ok(y)
}

/// Scatters the rows of `x` `[count, width]` to the rows of `y` at the indices.
///
/// # Errors
/// When a launch fails.
pub fn scattered(
    x: Operand<'_>,
    rows: Operand<'_>,
    first: usize,
    y: Operand<'_>,
    (count, width): (usize, usize),
) -> Result<()> {
    Launch::of(x.device(), CROSS_ENTROPY, "scatter_rows", x.dtype())?
        .buffer(x)?
        .at_offset(rows, first, size_of::<u32>())?
        .buffer(y)?
        .sizes([count, width])?
        .grid([count, 1, 1], THREADS, 0)
}

/// The mean of losses, `f32`, summed in `f64`.
///
/// # Errors
/// When a launch fails.
pub fn mean(losses: Operand<'_>) -> Result<CudaStorage> {
    let mean = allocate(losses.device(), DType::F32, 1)?;
    Launch::new(losses.device(), CROSS_ENTROPY, "mean_f32")?
        .buffers([losses, Operand::whole(&mean, 1)])?
        .sizes([losses.count()])?
        .grid([1, 1, 1], THREADS, 0)?;
    Ok(mean)
}
