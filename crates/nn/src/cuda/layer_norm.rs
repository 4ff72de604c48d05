//! Layer normalisation.

use candle_core::{CudaStorage, Result, Shape, Tensor};
use vxf_cuda::{Operand, layer_norm_back_gain, layer_norm_back_x, row_sum, with};

use super::{Kernel, apply_one, apply_three, if_tracked};

/// See [`crate::ops::layer_norm`], which has checked the operands.
pub(crate) fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let shape = x.shape().clone();
    if gain.track_op() || bias.track_op() {
        return apply_three([x, gain, bias], Norm { shape, eps });
    }
    let [gain, bias] = [gain.detach().contiguous()?, bias.detach().contiguous()?];
    apply_one(x, FrozenNorm { norm: Norm { shape, eps }, gain, bias })
}

struct Norm {
    shape: Shape,
    eps: f64,
}

struct FrozenNorm {
    norm: Norm,
    gain: Tensor,
    bias: Tensor,
}

impl Norm {
    fn back_x(&self, x: &Tensor, gain: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if_tracked(x, || {
            with([x, gain, dy], |[x, gain, dy]| layer_norm_back_x(x, gain, dy, self.eps))
        })
    }
}

impl Kernel<3> for Norm {
    const NAME: &'static str = "cuda-layer-norm";

    fn forward(&self, [x, gain, bias]: [Operand<'_>; 3]) -> Result<(CudaStorage, Shape)> {
        Ok((vxf_cuda::layer_norm(x, gain, bias, self.eps)?, self.shape.clone()))
    }

    fn backward(
        &self,
        [x, gain, bias]: [&Tensor; 3],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let width = gain.elem_count();
        let dgain = if_tracked(gain, || {
            with([x, dy], |[x, dy]| layer_norm_back_gain(x, dy, width, self.eps))
        })?;
        let dbias = if_tracked(bias, || with([dy], |[dy]| row_sum(dy, width)))?;
        Ok([self.back_x(x, gain, dy)?, dgain, dbias])
    }
}

impl Kernel<1> for FrozenNorm {
    const NAME: &'static str = "cuda-frozen-layer-norm";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let operands = [&self.gain, &self.bias];
        let y = with(operands, |[gain, bias]| vxf_cuda::layer_norm(x, gain, bias, self.norm.eps))?;
        Ok((y, self.norm.shape.clone()))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([self.norm.back_x(x, &self.gain, dy)?])
    }
}
