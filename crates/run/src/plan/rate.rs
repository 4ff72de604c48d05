//! How fast this machine is at this moment, for estimates of time.

use std::time::Instant;

use candle_core::{DType, Device, DeviceLocation, Tensor};

use crate::Result;

/// Size and type of the matrix product that [`rate`] measures. On a GPU a small product would measure
/// launches, and one in `f32` would not use the tensor cores.
fn yardstick(on: DeviceLocation, dtype: DType) -> (usize, DType) {
    match on {
        DeviceLocation::Cpu => (768, DType::F32),
        DeviceLocation::Cuda { .. } | DeviceLocation::Metal { .. } => (4096, dtype),
    }
}

/// Operations per second of a matrix product on `device` at this moment, for a model of `dtype`.
pub(crate) fn rate(device: &Device, dtype: DType) -> Result<f64> {
    let (side, dtype) = yardstick(device.location(), dtype);
    let a = Tensor::ones((side, side), dtype, device)?;
    // The first product loads the library and its kernels.
    drop(a.matmul(&a)?);
    device.synchronize()?;
    let mut best = 0f64;
    for _ in 0..4 {
        let begun = Instant::now();
        let product = a.matmul(&a)?;
        device.synchronize()?;
        drop(product);
        let seconds = begun.elapsed().as_secs_f64().max(1e-9);
        best = best.max(2.0 * (side as f64).powi(3) / seconds);
    }
    // Whole steps reach this share of it (docs/performance.md).
    Ok(0.6 * best)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GPU is measured with a large product in the model's own type.
    #[test]
    fn a_gpu_is_measured_with_large_products() {
        let gpu = DeviceLocation::Cuda { gpu_id: 0 };
        assert_eq!(yardstick(gpu, DType::BF16), (4096, DType::BF16));
        assert_eq!(yardstick(DeviceLocation::Cpu, DType::BF16), (768, DType::F32));
        assert!(rate(&Device::Cpu, DType::F32).is_ok_and(|rate| rate.is_finite() && rate > 0.0));
    }
}
