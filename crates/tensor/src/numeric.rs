//! Reductions in f64: f32 sums of a few million squares lose digits that the norms need.

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

/// The sum of the squares of each tensor's entries; does not wait for a device.
pub fn squares(tensors: &[&Tensor]) -> Result<Vec<Scalar>> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = on_device(tensors)? {
        let one = |index| Scalar::of(&sums.narrow(0, index, 1)?.squeeze(0)?);
        return (0..tensors.len()).map(one).collect();
    }
    tensors.iter().map(|tensor| own_square(tensor)).collect()
}

/// The L2 norm over all tensors; does not wait for a device.
pub fn norm(tensors: &[&Tensor]) -> Result<Scalar> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = on_device(tensors)? {
        return Scalar::of(&vxf_cuda::total(&sums)?)?.root();
    }
    let mut sum = Scalar::default();
    for tensor in tensors {
        sum = sum.plus(&own_square(tensor)?)?;
    }
    sum.root()
}

fn own_square(tensor: &Tensor) -> Result<Scalar> {
    match tensor.device().is_cpu() {
        true => Ok(sum_of_squares(tensor)?.into()),
        false => Scalar::of(&tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?),
    }
}

/// Sums of squares by our kernels, where all tensors are of a kind that they take.
#[cfg(feature = "cuda")]
fn on_device(tensors: &[&Tensor]) -> Result<Option<Tensor>> {
    if tensors.is_empty() || !tensors.iter().all(|tensor| in_kernels(tensor)) {
        return Ok(None);
    }
    let dense = tensors.iter().map(|x| x.contiguous()).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Some(vxf_cuda::squares(&dense.iter().collect::<Vec<_>>())?))
}

/// Whether the CUDA kernels take this tensor.
#[cfg(feature = "cuda")]
pub fn in_kernels(tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && matches!(tensor.dtype(), DType::F32 | DType::BF16)
}

/// Elements that are summed on one thread. Fixed, so that the order of additions does not depend on how
/// many there are.
const PART: usize = 1 << 18;

fn summed<T: Copy + Sync + Into<f64>>(values: &[T]) -> f64 {
    if values.len() <= PART {
        return vectorised!(lanes(values));
    }
    let parts = values.par_chunks(PART).map(|part| vectorised!(lanes(part)));
    parts.collect::<Vec<f64>>().iter().sum()
}

/// Eight independent partial sums: vectorises, and the order never depends on threads.
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

/// The first entry of a contiguous CPU tensor that is infinite or no number.
pub fn not_finite(tensor: &Tensor) -> Result<Option<f64>> {
    macro_rules! first {
        ($values:expr, $wide:expr) => {{
            let values = match tensor.layout().contiguous_offsets() {
                Some((start, end)) => &$values[start..end],
                None => &$values[..],
            };
            // Whole chunks without a branch inside, which the compiler turns into vector code.
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

/// The type that weights are trained in where a model computes in `dtype`: small steps are lost in
/// half types, whatever the model does with the weights then.
pub fn trained_in(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// The same values in a type that sums over many of them can be taken in; the gradient is of the
/// operand's own type.
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

    /// One part, several, and one that is not whole: what they come to, on however many threads.
    #[test]
    fn sums_do_not_depend_on_threads() {
        for len in [0, 5, PART, PART + 1, 3 * PART + 7] {
            let values: Vec<f32> = (0..len).map(|at| (at % 1013) as f32 / 512.0).collect();
            let exact: u64 = (0..len as u64).map(|at| (at % 1013).pow(2)).sum();
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                // Every partial sum is a whole number of these squares, so none is rounded.
                let sum = pool.expect("threads").install(|| summed(&values));
                assert_eq!(sum, exact as f64 / (512.0 * 512.0), "{len} elements");
            }
        }
    }
}
