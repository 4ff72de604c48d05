//! Root-mean-square normalisation.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CudaStorage, Result, Shape, Tensor};
use vxf_cuda::{Operand, rms_norm_back_gain, rms_norm_back_x, with};

use super::{Kernel, apply_one, apply_two, if_tracked};

/// See [`crate::ops::rms_norm`], which has checked the operands.
pub(crate) fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    Norm { shape: x.shape().clone(), eps, made: None }.apply(x, gain)
}

/// See [`crate::ops::add_rms_norm`], which has checked the operands.
///
/// One kernel makes both results when the sum is applied; the norm then only takes its own. So each result
/// has its own place in the graph, and its own backward.
pub(crate) fn add_rms_norm([x, y]: [&Tensor; 2], gain: &Tensor, eps: f64) -> Result<[Tensor; 2]> {
    let (shape, made) = (x.shape().clone(), Made::default());
    let captured = gain.detach().contiguous()?;
    let sum = Sum { shape: shape.clone(), gain: captured, eps, norm: made.clone() };
    let sum = apply_two([x, y], sum)?;
    let norm = Norm { shape, eps, made: Some(made) }.apply(&sum, gain)?;
    Ok([sum, norm])
}

/// A norm that was made together with what it is the norm of.
type Made = Arc<Mutex<Option<CudaStorage>>>;

struct Sum {
    shape: Shape,
    gain: Tensor,
    eps: f64,
    norm: Made,
}

impl Kernel<2> for Sum {
    const NAME: &'static str = "cuda-sum-of-norm";

    fn forward(&self, [x, y]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        let [sum, norm] =
            with([&self.gain], |[gain]| vxf_cuda::add_rms_norm(x, y, gain, self.eps))?;
        *self.norm.lock().unwrap_or_else(PoisonError::into_inner) = Some(norm);
        Ok((sum, self.shape.clone()))
    }

    fn backward(
        &self,
        [x, y]: [&Tensor; 2],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        Ok([x, y].map(|operand| operand.track_op().then(|| dy.clone())))
    }
}

struct Norm {
    shape: Shape,
    eps: f64,
    /// The result, if an earlier kernel made it.
    made: Option<Made>,
}

struct FrozenNorm {
    norm: Norm,
    gain: Tensor,
}

impl Norm {
    fn apply(self, x: &Tensor, gain: &Tensor) -> Result<Tensor> {
        if gain.track_op() {
            apply_two([x, gain], self)
        } else {
            let gain = gain.detach().contiguous()?;
            apply_one(x, FrozenNorm { norm: self, gain })
        }
    }

    fn forward(&self, x: Operand<'_>, gain: Operand<'_>) -> Result<(CudaStorage, Shape)> {
        let made = self.made.as_ref();
        let made = made.and_then(|made| made.lock().unwrap_or_else(PoisonError::into_inner).take());
        let norm = match made {
            Some(norm) => norm,
            None => vxf_cuda::rms_norm(x, gain, self.eps)?,
        };
        Ok((norm, self.shape.clone()))
    }

    fn back_x(&self, x: &Tensor, gain: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if_tracked(x, || {
            with([x, gain, dy], |[x, gain, dy]| rms_norm_back_x(x, gain, dy, self.eps))
        })
    }
}

impl Kernel<2> for Norm {
    const NAME: &'static str = "cuda-rms-norm";

    fn forward(&self, [x, gain]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        self.forward(x, gain)
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
        with([&self.gain], |[gain]| self.norm.forward(x, gain))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([self.norm.back_x(x, &self.gain, dy)?])
    }
}
