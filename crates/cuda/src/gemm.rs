//! GEMM by cuBLAS, with `f32` accumulation and a choice of output type.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::{CudaDevice, CudaStorage, DType, Result, bail};

use crate::buffer::{Operand, allocate};
use crate::device::bind;

/// A row-major matrix as an operand of a product.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    operand: Operand<'a>,
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Side<'a> {
    /// The matrix `[rows, columns]`.
    pub fn new(operand: Operand<'a>, rows: usize, columns: usize) -> Self {
        Self { operand, rows, columns, transposed: false }
    }

    /// Its transpose.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn shape(&self) -> [usize; 2] {
        if self.transposed { [self.columns, self.rows] } else { [self.rows, self.columns] }
    }

    fn operation(&self) -> sys::cublasOperation_t {
        match self.transposed {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        }
    }
}

/// Makes cuBLAS add partial sums (split-K) in `f32`; by default it may add them in the output's
/// type.
pub(crate) fn set_up(device: &CudaDevice) -> Result<()> {
    let mode = sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle is the device's own, and lives as long as it.
    unsafe { sys::cublasSetMathMode(*device.cublas_handle().handle(), mode) }.result().w()
}

/// `factor a b`, in the type `dtype`.
///
/// # Errors
/// When the sizes do not match, or cuBLAS fails.
pub fn product(a: Side<'_>, b: Side<'_>, factor: f64, dtype: DType) -> Result<CudaStorage> {
    let ([m, _], [_, n]) = (a.shape(), b.shape());
    let out = allocate(a.operand.device(), dtype, m * n)?;
    into(Operand::whole(&out, m * n), 0.0, factor, a, b)?;
    Ok(out)
}

/// Adds `factor a b` to `out`.
///
/// # Errors
/// As [`product`].
pub fn product_into(out: Operand<'_>, factor: f64, a: Side<'_>, b: Side<'_>) -> Result<()> {
    into(out, 1.0, factor, a, b)
}

fn into(out: Operand<'_>, keep: f64, factor: f64, a: Side<'_>, b: Side<'_>) -> Result<()> {
    let ([m, k], [k_of_b, n]) = (a.shape(), b.shape());
    if k != k_of_b || k == 0 {
        bail!("a product of [{m}, {k}] with [{k_of_b}, {n}]");
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    let kind = |dtype| match dtype {
        DType::F32 => Ok(sys::cudaDataType_t::CUDA_R_32F),
        DType::BF16 => Ok(sys::cudaDataType_t::CUDA_R_16BF),
        other => bail!("cuBLAS products do not support elements of type {other:?}"),
    };
    let size = |size: usize| match i32::try_from(size) {
        Ok(size) => Ok(size),
        Err(_) => bail!("a matrix dimension of {size} exceeds cuBLAS's 32-bit sizes"),
    };
    let (factor, keep) = (factor as f32, keep as f32);
    // cuBLAS uses the current context.
    bind(a.operand.device())?;
    let blas = a.operand.device().cublas_handle();
    // cuBLAS is column-major: it sees a row-major matrix as its transpose, and (a b)^T = b^T a^T.
    // SAFETY: the buffers have as many elements as the sizes say.
    let done = unsafe {
        result::gemm_ex(
            *blas.handle(),
            b.operation(),
            a.operation(),
            size(n)?,
            size(m)?,
            size(k)?,
            (&raw const factor).cast(),
            b.operand.address()? as *const _,
            kind(b.operand.dtype())?,
            size(b.columns)?,
            a.operand.address()? as *const _,
            kind(a.operand.dtype())?,
            size(a.columns)?,
            (&raw const keep).cast(),
            out.address()? as *mut _,
            kind(out.dtype())?,
            size(n)?,
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DFALT,
        )
    };
    done.w()
}
