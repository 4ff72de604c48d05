//! Element-wise operations: activations, the addition of a bias, the product with a mask, the split into
//! heads.

use candle_core::{CudaStorage, Result, Shape, Tensor};
use vxf_cuda::{Operand, relu_back, row_sum, swiglu_back, tensor, with};

use super::{Kernel, apply_one, apply_two, if_tracked};

/// See [`crate::ops::swiglu`], which has checked the operands.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    apply_two([gate, up], Swiglu(gate.shape().clone()))
}

struct Swiglu(Shape);

impl Kernel<2> for Swiglu {
    const NAME: &'static str = "cuda-swiglu";

    fn forward(&self, [gate, up]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        Ok((vxf_cuda::swiglu(gate, up)?, self.0.clone()))
    }

    fn backward(
        &self,
        [gate, up]: [&Tensor; 2],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let made = with([gate, up, dy], |[gate, up, dy]| swiglu_back(gate, up, dy))?;
        let [dgate, dup] = made.map(|gradient| tensor(gradient, &self.0));
        Ok([gate.track_op().then_some(dgate), up.track_op().then_some(dup)])
    }
}

/// See [`crate::ops::relu`].
pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    apply_one(x, Relu(x.shape().clone()))
}

struct Relu(Shape);

impl Kernel<1> for Relu {
    const NAME: &'static str = "cuda-relu";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        Ok((vxf_cuda::relu(x)?, self.0.clone()))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([if_tracked(x, || with([x, dy], |[x, dy]| relu_back(x, dy)))?])
    }
}

/// See [`crate::ops::add_bias`], which has checked the operands.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let shape = x.shape().clone();
    if bias.track_op() {
        apply_two([x, bias], Bias(shape))
    } else {
        apply_one(x, FrozenBias(Bias(shape), bias.detach().contiguous()?))
    }
}

struct Bias(Shape);

struct FrozenBias(Bias, Tensor);

impl Kernel<2> for Bias {
    const NAME: &'static str = "cuda-bias";

    fn forward(&self, [x, bias]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        Ok((vxf_cuda::add_row(x, bias)?, self.0.clone()))
    }

    fn backward(
        &self,
        [x, bias]: [&Tensor; 2],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let width = bias.elem_count();
        let dbias = if_tracked(bias, || with([dy], |[dy]| row_sum(dy, width)))?;
        Ok([x.track_op().then(|| dy.clone()), dbias])
    }
}

impl Kernel<1> for FrozenBias {
    const NAME: &'static str = "cuda-frozen-bias";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let y = with([&self.1], |[bias]| vxf_cuda::add_row(x, bias))?;
        Ok((y, self.0.0.clone()))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([x.track_op().then(|| dy.clone())])
    }
}

/// See [`crate::ops::masked`], which has checked the operands.
pub(crate) fn masked(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    apply_one(x, Masked(mask.detach().contiguous()?))
}

struct Masked(Tensor);

impl Kernel<1> for Masked {
    const NAME: &'static str = "cuda-masked";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let y = with([&self.0], |[mask]| vxf_cuda::masked(x, mask))?;
        Ok((y, self.0.shape().clone()))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let dx = || with([dy, &self.0], |[dy, mask]| vxf_cuda::masked(dy, mask));
        Ok([if_tracked(x, dx)?])
    }
}

/// Splits `x` `[batch, len, heads d]` into heads before positions, and rotates each by tables
/// `[len, d / 2]`, if given; see [`crate::ops::rotary`].
pub(crate) fn heads(
    x: &Tensor,
    rotation: Option<[&Tensor; 2]>,
    [batch, len, heads, d]: [usize; 4],
) -> Result<Tensor> {
    let rotation = match rotation {
        Some([cos, sin]) => Some([cos.detach().contiguous()?, sin.detach().contiguous()?]),
        None => None,
    };
    apply_one(x, Heads { rotation, sizes: [batch, len, heads, d] })
}

struct Heads {
    /// Cosines and sines, from the first position on.
    rotation: Option<[Tensor; 2]>,
    sizes: [usize; 4],
}

impl Heads {
    fn apply(&self, x: Operand<'_>, back: bool) -> Result<CudaStorage> {
        match &self.rotation {
            None => vxf_cuda::heads(x, None, self.sizes, back),
            Some([cos, sin]) => {
                with([cos, sin], |tables| vxf_cuda::heads(x, Some(tables), self.sizes, back))
            }
        }
    }
}

impl Kernel<1> for Heads {
    const NAME: &'static str = "cuda-heads";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let [batch, len, heads, d] = self.sizes;
        Ok((self.apply(x, false)?, Shape::from((batch, heads, len, d))))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([if_tracked(x, || with([dy], |[dy]| self.apply(dy, true)))?])
    }
}
