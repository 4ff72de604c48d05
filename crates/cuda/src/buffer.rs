//! Operands of launches: an address, an element type, a count.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor, bail};
use half::bf16;

use crate::memory::with_size;

/// A contiguous operand of a launch.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    storage: &'a CudaStorage,
    start: usize,
    count: usize,
}

impl<'a> Operand<'a> {
    /// The elements of a contiguous layout.
    ///
    /// # Errors
    /// When the layout is strided.
    pub fn new(storage: &'a CudaStorage, layout: &Layout) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a CUDA kernel was given a strided operand of shape {:?}", layout.shape());
        };
        Ok(Self { storage, start, count: end - start })
    }

    /// All elements from the layout's first one, for kernels that handle strides themselves.
    pub fn from_start(storage: &'a CudaStorage, layout: &Layout) -> Self {
        Self { storage, start: layout.start_offset(), count: layout.shape().elem_count() }
    }

    /// All of a buffer.
    pub fn whole(storage: &'a CudaStorage, count: usize) -> Self {
        Self { storage, start: 0, count }
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their type.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Their device.
    pub fn device(&self) -> &'a CudaDevice {
        self.storage.device()
    }

    /// The address of the first element.
    ///
    /// All launches and frees are on the device's one stream, so an address stays valid for every
    /// launch made while its storage lives.
    pub(crate) fn address(&self) -> Result<u64> {
        let stream = self.device().cuda_stream();
        macro_rules! first {
            ($slice:expr, $T:ty) => {
                $slice.device_ptr(&stream).0 + (self.start * size_of::<$T>()) as u64
            };
        }
        Ok(match &self.storage.slice {
            CudaStorageSlice::F32(slice) => first!(slice, f32),
            CudaStorageSlice::F64(slice) => first!(slice, f64),
            CudaStorageSlice::BF16(slice) => first!(slice, bf16),
            CudaStorageSlice::U32(slice) => first!(slice, u32),
            CudaStorageSlice::I32(slice) => first!(slice, i32),
            _ => bail!("our CUDA kernels do not support elements of type {:?}", self.dtype()),
        })
    }
}

/// Calls `f` with the elements of contiguous tensors.
///
/// # Errors
/// When a tensor is strided or not on a CUDA device; those of `f`.
pub fn with<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([Operand<'_>; N]) -> Result<R>,
) -> Result<R> {
    let locked = tensors.map(Tensor::storage_and_layout);
    let mut operands = Vec::with_capacity(N);
    for (storage, layout) in &locked {
        match &**storage {
            Storage::Cuda(storage) => operands.push(Operand::new(storage, layout)?),
            _ => bail!("a CUDA kernel was given a tensor on another device"),
        }
    }
    match operands.try_into() {
        Ok(operands) => f(operands),
        Err(_) => unreachable!("one operand for each of {N} tensors"),
    }
}

/// A tensor from the output of a launch, without a graph.
pub fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// `count` zeros.
///
/// # Errors
/// When there are none of the type, or the memory does not suffice.
pub fn zeros(device: &CudaDevice, dtype: DType, count: usize) -> Result<CudaStorage> {
    macro_rules! zeros {
        ($T:ty) => {{
            let slice = device.alloc_zeros::<$T>(count);
            let slice = slice.map_err(|error| with_size(error, count * size_of::<$T>()))?;
            CudaStorage::wrap_cuda_slice(slice, device.clone())
        }};
    }
    Ok(match dtype {
        DType::F32 => zeros!(f32),
        DType::BF16 => zeros!(bf16),
        other => bail!("no zeros of ours have the type {other:?}"),
    })
}

/// Room for `count` elements, not initialised.
///
/// # Errors
/// When there is not enough memory.
pub(crate) fn allocate(device: &CudaDevice, dtype: DType, count: usize) -> Result<CudaStorage> {
    macro_rules! allocate {
        ($T:ty) => {{
            // SAFETY: the caller's launch writes every element before anything reads one.
            let slice = unsafe { device.alloc::<$T>(count) };
            let slice = slice.map_err(|error| with_size(error, count * size_of::<$T>()))?;
            CudaStorage::wrap_cuda_slice(slice, device.clone())
        }};
    }
    Ok(match dtype {
        DType::F32 => allocate!(f32),
        DType::F64 => allocate!(f64),
        DType::BF16 => allocate!(bf16),
        DType::U32 => allocate!(u32),
        other => bail!("our CUDA kernels do not produce elements of type {other:?}"),
    })
}
