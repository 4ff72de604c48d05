//! Reductions in f64; f32 sums of millions of squares lose digits that the norms need.

use candle_core::{CpuStorage, DType, Storage, Tensor};
use rayon::prelude::*;

use crate::scalar::Scalar;
use crate::{Result, autograd, vectorised};

/// The sum of the squares of all entries, accumulated in f64 in a fixed order.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
        match cpu {
            CpuStorage::F32(values) => return Ok(summed(&values[start..end])),
            CpuStorage::F64(values) => return Ok(summed(&values[start..end])),
            _ => {}
        }
    }
    drop(storage);
    tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
}

/// The sum of squares of each tensor, deferred: does not wait for a device.
pub fn squares(tensors: &[&Tensor]) -> Result<Vec<Scalar>> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = on_device(tensors)? {
        let one = |index| Scalar::of(&sums.narrow(0, index, 1)?.squeeze(0)?);
        return (0..tensors.len()).map(one).collect();
    }
    tensors.iter().map(|tensor| own_square(tensor)).collect()
}

/// The L2 norm over all tensors, deferred: does not wait for a device.
pub fn norm(tensors: &[&Tensor]) -> Result<Scalar> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = on_device(tensors)? {
        return Scalar::of(&vxf_cuda::total(&sums)?)?.sqrt();
    }
    let mut sum = Scalar::default();
    for tensor in tensors {
        sum = sum.add(&own_square(tensor)?)?;
    }
    sum.sqrt()
}

fn own_square(tensor: &Tensor) -> Result<Scalar> {
    match tensor.device().is_cpu() {
        true => Ok(sum_of_squares(tensor)?.into()),
        false => Scalar::of(&tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?),
    }
}

/// Sums of squares by our CUDA kernels; `None` if a tensor is not supported by them.
#[cfg(feature = "cuda")]
fn on_device(tensors: &[&Tensor]) -> Result<Option<Tensor>> {
    if tensors.is_empty() || !tensors.iter().all(|tensor| in_kernels(tensor)) {
        return Ok(None);
    }
    let dense = tensors.iter().map(|x| x.contiguous()).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Some(vxf_cuda::squares(&dense.iter().collect::<Vec<_>>())?))
}

/// Whether the CUDA kernels support this tensor.
#[cfg(feature = "cuda")]
pub fn in_kernels(tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && matches!(tensor.dtype(), DType::F32 | DType::BF16)
}

/// Elements summed on one thread. Fixed, so that the order of additions does not depend on the number
/// of threads.
const PART: usize = 1 << 18;

fn summed<T: Copy + Sync + Into<f64>>(values: &[T]) -> f64 {
    if values.len() <= PART {
        return vectorised!(lanes(values));
    }
    let parts = values.par_chunks(PART).map(|part| vectorised!(lanes(part)));
    parts.collect::<Vec<f64>>().iter().sum()
}

/// Eight independent partial sums, which vectorise; the order never depends on threads.
#[inline(always)]
fn lanes<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&x| x.into() * x.into()).sum();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            let x: f64 = x.into();
            *sum += x * x;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `factor * tensor`, on all threads of a CPU.
pub fn scaled(tensor: &Tensor, factor: f64) -> Result<Tensor> {
    /// Elements per unit of parallel work.
    const CHUNK: usize = 1 << 14;
    macro_rules! product {
        ($values:expr, $span:expr, $factor:expr) => {{
            let mut product = Vec::new();
            let values = $values[$span].par_iter().with_min_len(CHUNK);
            values.map(|value| value * $factor).collect_into_vec(&mut product);
            Tensor::from_vec(product, tensor.shape(), tensor.device())
        }};
    }
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            product!(values, start..end, factor as f32)
        }
        (Storage::Cpu(CpuStorage::F64(values)), Some((start, end))) => {
            product!(values, start..end, factor)
        }
        _ => tensor.detach() * factor,
    }
}

/// The first NaN or infinity of a contiguous CPU tensor.
pub fn not_finite(tensor: &Tensor) -> Result<Option<f64>> {
    macro_rules! first {
        ($values:expr, $wide:expr) => {{
            let values = match tensor.layout().contiguous_offsets() {
                Some((start, end)) => &$values[start..end],
                None => &$values[..],
            };
            // No branch within a chunk, so that the compiler vectorises the loop.
            let bad = values
                .chunks(4096)
                .find(|chunk| !chunk.iter().fold(true, |finite, value| finite & value.is_finite()));
            bad.and_then(|chunk| chunk.iter().find(|value| !value.is_finite())).map($wide)
        }};
    }
    let (storage, _) = tensor.storage_and_layout();
    Ok(match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => first!(values, |value| f64::from(*value)),
        Storage::Cpu(CpuStorage::F64(values)) => first!(values, |value| *value),
        Storage::Cpu(CpuStorage::F16(values)) => first!(values, |value| value.to_f64()),
        Storage::Cpu(CpuStorage::BF16(values)) => first!(values, |value| value.to_f64()),
        _ => None,
    })
}

/// The dtype of trained weights for a model that computes in `dtype`: half precision loses small
/// updates, so it is at least f32.
pub fn trained_in(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Casts to a dtype that large sums can be accumulated in; the gradient has the operand's dtype.
///
/// # Errors
/// When there is no conversion.
pub fn widened(x: &Tensor) -> Result<Tensor> {
    autograd::cast(x, trained_in(x.dtype()))
}

/// A scalar tensor's value.
pub fn scalar(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar()
}

#[cfg(test)]
mod tests {
    use super::{PART, summed};

    /// The sum over one or several parts, the last one partial, does not depend on the number of
    /// threads.
    #[test]
    fn sums_do_not_depend_on_threads() {
        for len in [0, 5, PART, PART + 1, 3 * PART + 7] {
            let values: Vec<f32> = (0..len).map(|at| (at % 1013) as f32 / 512.0).collect();
            let exact: u64 = (0..len as u64).map(|at| (at % 1013).pow(2)).sum();
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                // Every partial sum is an integer multiple of the same power of two, so none is rounded.
                let sum = pool.expect("threads").install(|| summed(&values));
                assert_eq!(sum, exact as f64 / (512.0 * 512.0), "{len} elements");
            }
        }
    }
}
