//! Root-mean-square normalisation.

use candle_core::{CudaStorage, Result, Shape, Tensor};
use vxf_cuda::{Operand, rms_norm_back_gain, rms_norm_back_x, with};

use super::{Kernel, apply_one, apply_two, if_tracked};

/// See [`crate::ops::rms_norm`], which has checked the operands.
pub(crate) fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let shape = x.shape().clone();
    if gain.track_op() {
        apply_two([x, gain], Norm { shape, eps })
    } else {
        let gain = gain.detach().contiguous()?;
        apply_one(x, FrozenNorm { norm: Norm { shape, eps }, gain })
    }
}

struct Norm {
    shape: Shape,
    eps: f64,
}

struct FrozenNorm {
    norm: Norm,
    gain: Tensor,
}

impl Norm {
    fn back_x(&self, x: &Tensor, gain: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if_tracked(x, || {
            with([x, gain, dy], |[x, gain, dy]| rms_norm_back_x(x, gain, dy, self.eps))
        })
    }
}

impl Kernel<2> for Norm {
    const NAME: &'static str = "cuda-rms-norm";

    fn forward(&self, [x, gain]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        Ok((vxf_cuda::rms_norm(x, gain, self.eps)?, self.shape.clone()))
    }

    fn backward(
        &self,
        [x, gain]: [&Tensor; 2],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let width = gain.elem_count();
        let dgain = if_tracked(gain, || {
            with([x, dy], |[x, dy]| rms_norm_back_gain(x, dy, width, self.eps))
        })?;
        Ok([self.back_x(x, gain, dy)?, dgain])
    }
}

impl Kernel<1> for FrozenNorm {
    const NAME: &'static str = "cuda-frozen-rms-norm";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let y = with([&self.gain], |[gain]| vxf_cuda::rms_norm(x, gain, self.norm.eps))?;
        Ok((y, self.norm.shape.clone()))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([self.norm.back_x(x, &self.gain, dy)?])
    }
}
