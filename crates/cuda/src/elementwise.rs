//! Element-wise kernels.

use candle_core::{CudaStorage, DType, Result, bail};

use crate::attention::Samples;
use crate::buffer::{Operand, allocate};
use crate::launch::{ELEMENTWISE, ENOUGH, File, HEADS, Launch, RUN, SWIGLU, THREADS};

fn of_two(file: File, name: &str, x: Operand<'_>, y: Operand<'_>) -> Result<CudaStorage> {
    let z = allocate(x.device(), x.dtype(), x.count())?;
    Launch::of(x.device(), file, name, x.dtype())?
        .buffers([x, y, Operand::whole(&z, x.count())])?
        .count(x.count())
        .over_runs(x.count())?;
    Ok(z)
}

/// `x + y`.
///
/// # Errors
/// When a launch fails.
pub fn add(x: Operand<'_>, y: Operand<'_>) -> Result<CudaStorage> {
    of_two(ELEMENTWISE, "plus", x, y)
}

/// `x mask`.
///
/// # Errors
/// When a launch fails.
pub fn masked(x: Operand<'_>, mask: Operand<'_>) -> Result<CudaStorage> {
    of_two(ELEMENTWISE, "masked", x, mask)
}

/// Adds `x mask` to `y`.
///
/// # Errors
/// When a launch fails.
pub fn add_masked(y: Operand<'_>, x: Operand<'_>, mask: Operand<'_>) -> Result<()> {
    Launch::of(x.device(), ELEMENTWISE, "add_masked", x.dtype())?
        .buffers([y, x, mask])?
        .count(x.count())
        .over_runs(x.count())
}

/// `x` `[rows, width]` with `row` `[width]` added to each row.
///
/// # Errors
/// When a launch fails.
pub fn add_row(x: Operand<'_>, row: Operand<'_>) -> Result<CudaStorage> {
    /// The most rows of blocks that a grid can have.
    const MOST: usize = 65_535;
    let y = allocate(x.device(), x.dtype(), x.count())?;
    let width = row.count();
    let rows = x.count() / width;
    let across = width.div_ceil(RUN * THREADS);
    Launch::of(x.device(), ELEMENTWISE, "add_row", x.dtype())?
        .buffers([x, row, Operand::whole(&y, x.count())])?
        .sizes([rows, width])?
        .grid([across, rows.min(MOST).min(ENOUGH.div_ceil(across)), 1], THREADS, 0)?;
    Ok(y)
}

/// `x` where it is above zero or `NaN`, else 0.
///
/// # Errors
/// When a launch fails.
pub fn relu(x: Operand<'_>) -> Result<CudaStorage> {
    let y = allocate(x.device(), x.dtype(), x.count())?;
    Launch::of(x.device(), ELEMENTWISE, "relu", x.dtype())?
        .buffers([x, Operand::whole(&y, x.count())])?
        .count(x.count())
        .over_runs(x.count())?;
    Ok(y)
}

/// `dy` where `x` is above zero or `NaN`, else 0.
///
/// # Errors
/// When a launch fails.
pub fn relu_back(x: Operand<'_>, dy: Operand<'_>) -> Result<CudaStorage> {
    of_two(ELEMENTWISE, "relu_back", x, dy)
}

/// `x` times the single `f64` in `factor`, rounded once.
///
/// # Errors
/// When a launch fails.
pub fn scaled_by(x: Operand<'_>, factor: Operand<'_>) -> Result<CudaStorage> {
    let y = allocate(x.device(), x.dtype(), x.count())?;
    Launch::of(x.device(), ELEMENTWISE, "scaled_by", x.dtype())?
        .buffers([x, factor, Operand::whole(&y, x.count())])?
        .count(x.count())
        .over(x.count())?;
    Ok(y)
}

/// `x` converted to another type.
///
/// # Errors
/// When no kernel supports the two types, or a launch fails.
pub fn cast(x: Operand<'_>, dtype: DType) -> Result<CudaStorage> {
    let name = match (x.dtype(), dtype) {
        (DType::F32, DType::BF16) => "f32_to_bf16",
        (DType::BF16, DType::F32) => "bf16_to_f32",
        (from, to) => bail!("no kernel converts {from:?} to {to:?}"),
    };
    let y = allocate(x.device(), dtype, x.count())?;
    Launch::new(x.device(), ELEMENTWISE, name)?
        .buffers([x, Operand::whole(&y, x.count())])?
        .count(x.count())
        .over_runs(x.count())?;
    Ok(y)
}

/// `gate sigmoid(gate) up`.
///
/// # Errors
/// When a launch fails.
pub fn swiglu(gate: Operand<'_>, up: Operand<'_>) -> Result<CudaStorage> {
    of_two(SWIGLU, "swiglu", gate, up)
}

/// The gradients of `gate` and `up`.
///
/// # Errors
/// When a launch fails.
pub fn swiglu_back(
    gate: Operand<'_>,
    up: Operand<'_>,
    dy: Operand<'_>,
) -> Result<[CudaStorage; 2]> {
    let (device, dtype, count) = (gate.device(), gate.dtype(), gate.count());
    let (dgate, dup) = (allocate(device, dtype, count)?, allocate(device, dtype, count)?);
    Launch::of(device, SWIGLU, "swiglu_back", dtype)?
        .buffers([gate, up, dy, Operand::whole(&dgate, count), Operand::whole(&dup, count)])?
        .count(count)
        .over_runs(count)?;
    Ok([dgate, dup])
}

/// Converts `[batch, len, heads, d]` to `[batch, heads, len, d]`; rotates each head by its position
/// if tables `[len, d / 2]` of cosines and sines are given. With `back`, the transpose of that.
///
/// # Errors
/// When a launch fails.
pub fn heads(
    x: Operand<'_>,
    rotation: Option<[Operand<'_>; 2]>,
    sizes: [usize; 4],
    back: bool,
) -> Result<CudaStorage> {
    let y = allocate(x.device(), x.dtype(), x.count())?;
    let launch = Launch::of(x.device(), HEADS, "heads", x.dtype())?.buffer(x)?;
    let launch = match rotation {
        Some(tables) => launch.buffers(tables)?,
        None => launch.null().null(),
    };
    launch
        .buffer(Operand::whole(&y, x.count()))?
        .sizes(sizes)?
        .flag(back)
        .flag(rotation.is_some())
        .over(x.count())?;
    Ok(y)
}

/// `x` `[rows, heads d]` with each head rotated by its row's position in its sample, or back: the first
/// `2 half` elements of a head by tables `[positions, half]` of cosines and sines.
///
/// # Errors
/// When a launch fails.
pub fn turned(
    x: Operand<'_>,
    tables: [Operand<'_>; 2],
    samples: &Samples,
    [heads, d, half]: [usize; 3],
    back: bool,
) -> Result<CudaStorage> {
    let y = allocate(x.device(), x.dtype(), x.count())?;
    let across = (samples.longest() * heads * (d - half)).div_ceil(THREADS).min(ENOUGH);
    Launch::of(x.device(), HEADS, "turned", x.dtype())?
        .buffer(x)?
        .buffers(tables)?
        .buffers([Operand::whole(&y, x.count()), samples.table()])?
        .sizes([heads, d, half])?
        .flag(back)
        .grid([across, samples.count(), 1], THREADS, 0)?;
    Ok(y)
}
