//! Reductions in f64: f32 sums of a few million squares lose digits that the norms need.

use candle_core::{CpuStorage, DType, Storage, Tensor};

use crate::Result;

/// The sum of the squares of all entries, accumulated in f64 in a fixed order.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
        match cpu {
            CpuStorage::F32(values) => return Ok(lanes(&values[start..end])),
            CpuStorage::F64(values) => return Ok(lanes(&values[start..end])),
            _ => {}
        }
    }
    drop(storage);
    Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
}

/// Eight independent partial sums: vectorises, and the order never depends on threads.
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

/// A scalar tensor's value.
pub fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.to_dtype(DType::F64)?.to_scalar()?)
}

/// The widest vector instructions of this processor that matrix products and kernels use. Other
/// ones order sums differently, so bits are promised within one of these alone.
pub fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512f";
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            return "avx2+fma";
        }
        return "sse2";
    }
    #[allow(unreachable_code, reason = "every other architecture has one set of them")]
    "default"
}
