//! Memory of a device: its use, and out-of-memory errors.

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublas::result::CublasError;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasStatus_t;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result, sys};
use candle_core::cuda_backend::{CudaError, WrapErr};
use candle_core::{Error, Result};

/// The error of an allocation that did not fit.
#[derive(Debug)]
struct OutOfMemory {
    asked: usize,
}

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "out of GPU memory: {} bytes requested", self.asked)
    }
}

impl std::error::Error for OutOfMemory {}

/// Adds the size of the allocation to an out-of-memory error.
pub(crate) fn with_size(error: Error, bytes: usize) -> Error {
    match out_of_memory(&error) {
        Some(_) => Error::Cuda(Box::new(OutOfMemory { asked: bytes })),
        None => error,
    }
}

/// Whether an error is an out-of-memory error of a GPU, and the bytes requested, if known.
pub fn out_of_memory(error: &Error) -> Option<Option<usize>> {
    match error {
        Error::Cuda(inner) => {
            if let Some(OutOfMemory { asked }) = inner.downcast_ref() {
                return Some(Some(*asked));
            }
            let full = match inner.downcast_ref()? {
                CudaError::Cuda(DriverError(code)) => {
                    *code == sys::cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY
                }
                CudaError::Cublas(CublasError(status)) => {
                    *status == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED
                }
                _ => false,
            };
            full.then_some(None)
        }
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => out_of_memory(inner),
        Error::WithPath { inner, .. } => out_of_memory(inner),
        _ => None,
    }
}

/// Bytes free on device `number`.
///
/// # Errors
/// When there is no such device, or its memory is too full for a context.
pub fn free(number: usize) -> Result<usize> {
    let (free, _) = CudaContext::new(number).w()?.mem_get_info().w()?;
    Ok(free)
}

/// Free and total bytes of the device that this thread used last.
///
/// # Errors
/// When no device is in use.
pub fn free_and_total() -> Result<(usize, usize)> {
    result::mem_get_info().w()
}

/// Makes the memory pool of device `number` keep freed memory. Otherwise the driver returns it to
/// the system at every synchronisation and allocates it again in the next step.
pub(crate) fn keep(number: usize) -> Result<()> {
    let mut threshold = u64::MAX;
    // SAFETY: the attribute is a number of 64 bits.
    unsafe {
        let pool = pool(number)?;
        let value = (&raw mut threshold).cast::<c_void>();
        let attribute = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, value).w()
    }
}

/// The most bytes of device `number` that were in use at one time since the last call.
///
/// # Errors
/// When there is no such device.
pub fn peak(number: usize) -> Result<usize> {
    let (mut most, mut anew) = (0u64, 0u64);
    let attribute = Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the attribute is a number of 64 bits; writing zero resets it.
    unsafe {
        let pool = pool(number)?;
        result::mem_pool::get_attribute(pool, attribute, (&raw mut most).cast()).w()?;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut anew).cast()).w()?;
    }
    Ok(most as usize)
}

unsafe fn pool(number: usize) -> Result<sys::CUmemoryPool> {
    let device = result::device::get(number as i32).w()?;
    // SAFETY: the driver has just named the device.
    unsafe { result::device::get_default_mem_pool(device).w() }
}
