//! The matrix product of a linear layer.

use candle_core::{CudaStorage, Result, Shape, Tensor};
use vxf_cuda::{Operand, Side, product, with};

use super::{Kernel, apply_one, apply_two, if_tracked};
use crate::ops::{Matrix, Sizes, Weight};

/// See [`crate::ops::linear`], which has checked the operands.
pub(crate) fn linear(x: &Tensor, w: Weight<'_>, sizes: Sizes, shape: Shape) -> Result<Tensor> {
    let layer = Linear { sizes, shape };
    match w {
        Weight::Dense(w) if w.track_op() => apply_two([x, w], layer),
        frozen => apply_one(x, FrozenLinear { layer, w: frozen.held()? }),
    }
}

/// `x w^T`.
pub(super) fn forward(x: Operand<'_>, w: Operand<'_>, sizes: Sizes) -> Result<CudaStorage> {
    let Sizes { rows, inner, out } = sizes;
    product(Side::new(x, rows, inner), Side::new(w, out, inner).t(), 1.0, x.dtype())
}

/// The gradient of `x`: `dy w`.
pub(super) fn back_x(dy: Operand<'_>, w: Operand<'_>, sizes: Sizes) -> Result<CudaStorage> {
    let Sizes { rows, inner, out } = sizes;
    product(Side::new(dy, rows, out), Side::new(w, out, inner), 1.0, dy.dtype())
}

struct Linear {
    sizes: Sizes,
    shape: Shape,
}

struct FrozenLinear {
    layer: Linear,
    w: Matrix,
}

impl Kernel<2> for Linear {
    const NAME: &'static str = "cuda-linear";

    fn forward(&self, [x, w]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        Ok((forward(x, w, self.sizes)?, self.shape.clone()))
    }

    fn backward(
        &self,
        [x, w]: [&Tensor; 2],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let Sizes { rows, inner, out } = self.sizes;
        let dx = if_tracked(x, || with([dy, w], |[dy, w]| back_x(dy, w, self.sizes)))?;
        let dw = if_tracked(w, || {
            with([dy, x], |[dy, x]| {
                product(Side::new(dy, rows, out).t(), Side::new(x, rows, inner), 1.0, w.dtype())
            })
        })?;
        Ok([dx, dw])
    }
}

impl Kernel<1> for FrozenLinear {
    const NAME: &'static str = "cuda-frozen-linear";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        let w = self.w.dense(x.dtype())?;
        let y = with([&w], |[w]| forward(x, w, self.layer.sizes))?;
        Ok((y, self.layer.shape.clone()))
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let sizes = self.layer.sizes;
        Ok([if_tracked(x, || {
            let w = self.w.dense(dy.dtype())?;
            with([dy, &w], |[dy, w]| back_x(dy, w, sizes))
        })?])
    }
}
