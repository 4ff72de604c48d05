//! Large products of matrices.

use std::time::Instant;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use vxf_core::{Key, Result};

use crate::{Args, on};

/// The best rate of our own large matrix products.
pub(crate) fn matmul(args: &Args) -> Result<Value> {
    let (device, mut best) = (on(args)?, 0f64);
    let (sizes, dtype) = match (device.is_cpu(), &*args.dtype) {
        (true, _) => ([1024, 2048], DType::F32),
        (false, "bf16") => ([4096, 8192], DType::BF16),
        (false, _) => ([4096, 8192], DType::F32),
    };
    for size in sizes {
        let key = Key::root(1);
        let square = |name| key.child(name).normal(&[size, size], dtype, &device);
        let (x, w): (Tensor, Tensor) = (square("x")?, square("w")?);
        for _ in 0..8 {
            let begin = Instant::now();
            vxf_nn::ops::linear(&x, &w)?;
            device.synchronize()?;
            let seconds = begin.elapsed().as_secs_f64();
            best = best.max(2.0 * (size as f64).powi(3) / seconds / 1e9);
        }
    }
    Ok(json!({ "matmul_gflops": best }))
}
