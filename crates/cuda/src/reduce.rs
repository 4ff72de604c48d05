//! Sums of squares, and sums over rows.

use candle_core::{CudaStorage, DType, Result, Tensor, bail};

use crate::buffer::{Operand, allocate, tensor, with};
use crate::launch::{Launch, REDUCE, THREADS};

/// The sum of squares of each tensor, `[tensors]` in `f64`, in two stages.
///
/// # Errors
/// When there is no tensor, one is strided or on another device, or a launch fails.
pub fn squares(tensors: &[&Tensor]) -> Result<Tensor> {
    /// Elements per thread, below which another block is not worth its cost.
    const EACH: usize = 16;
    /// The most partial sums of a tensor.
    const MOST: usize = 256;
    let Some(first) = tensors.first() else { bail!("sums of squares need at least one tensor") };
    let device = first.device().as_cuda_device()?;
    let sums = allocate(device, DType::F64, tensors.len())?;
    let partial = allocate(device, DType::F64, MOST)?;
    for (index, x) in tensors.iter().enumerate() {
        let blocks = x.elem_count().div_ceil(THREADS * EACH).clamp(1, MOST);
        let partial = Operand::whole(&partial, blocks);
        with([*x], |[x]| {
            Launch::of(device, REDUCE, "sum_of_squares", x.dtype())?
                .buffers([x, partial])?
                .count(x.count())
                .grid([blocks, 1, 1], THREADS, 0)
        })?;
        Launch::new(device, REDUCE, "total")?
            .buffer(partial)?
            .at_offset(Operand::whole(&sums, tensors.len()), index, size_of::<f64>())?
            .sizes([blocks])?
            .grid([1, 1, 1], THREADS, 0)?;
    }
    Ok(tensor(sums, tensors.len()))
}

/// The sum of `f64` numbers, as a scalar.
///
/// # Errors
/// When the tensor is strided or on another device, or a launch fails.
pub fn total(numbers: &Tensor) -> Result<Tensor> {
    let device = numbers.device().as_cuda_device()?;
    let sum = allocate(device, DType::F64, 1)?;
    with([numbers], |[numbers]| {
        Launch::new(device, REDUCE, "total")?
            .buffers([numbers, Operand::whole(&sum, 1)])?
            .sizes([numbers.count()])?
            .grid([1, 1, 1], THREADS, 0)
    })?;
    Ok(tensor(sum, ()))
}

/// Rows per partial sum.
pub(crate) const ROWS: usize = 32;

/// The sum of the rows of `x` `[rows, width]`, in `x`'s type.
///
/// # Errors
/// When a launch fails.
pub fn row_sum(x: Operand<'_>, width: usize) -> Result<CudaStorage> {
    let rows = x.count() / width;
    let blocks = rows.div_ceil(ROWS);
    let partial = allocate(x.device(), DType::F32, blocks * width)?;
    let partial = Operand::whole(&partial, blocks * width);
    Launch::of(x.device(), REDUCE, "row_sums", x.dtype())?
        .buffers([x, partial])?
        .sizes([rows, width, ROWS])?
        .grid([width.div_ceil(THREADS), blocks, 1], THREADS, 0)?;
    column_sums(partial, width, x.dtype())
}

/// The sum of the rows of `partial` `[rows, width]`, `f32`, in the given type.
pub(crate) fn column_sums(partial: Operand<'_>, width: usize, dtype: DType) -> Result<CudaStorage> {
    let sum = allocate(partial.device(), dtype, width)?;
    Launch::of(partial.device(), REDUCE, "column_sums", dtype)?
        .buffers([partial, Operand::whole(&sum, width)])?
        .sizes([partial.count() / width, width])?
        .grid([width.div_ceil(THREADS), 1, 1], THREADS, 0)?;
    Ok(sum)
}
