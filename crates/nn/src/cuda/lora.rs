//! A frozen linear layer with a low-rank adapter, whose weights may be `f32` beside `bf16`.

use std::sync::OnceLock;

use candle_core::{CudaStorage, DType, Result, Shape, Tensor, bail};
use vxf_cuda::{Operand, Side, add_masked, product, product_into, tensor, with};

use super::{Kernel, apply_one, apply_three, if_tracked, in_type, linear};
use crate::ops::{Matrix, Sizes, Weight};

/// See [`crate::ops::lora_linear`], which has checked the operands.
pub(crate) fn lora_linear(
    x: &Tensor,
    w: Weight<'_>,
    [a, b]: [&Tensor; 2],
    scale: f64,
    mask: Option<&Tensor>,
    (sizes, shape): (Sizes, Shape),
) -> Result<Tensor> {
    let adapted = Adapted {
        w: w.held()?,
        a: in_type(a, x.dtype())?,
        b: in_type(b, x.dtype())?,
        mask: mask.map(|mask| mask.detach().contiguous()).transpose()?,
        rank: a.dim(0)?,
        sizes,
        scale,
        shape,
        inner: OnceLock::new(),
    };
    match a.track_op() || b.track_op() {
        true => apply_three([x, a, b], adapted),
        false => apply_one(x, adapted),
    }
}

/// The layer. The adapter may be frozen.
struct Adapted {
    w: Matrix,
    /// The adapter's weights in the type of the activations.
    a: Tensor,
    b: Tensor,
    mask: Option<Tensor>,
    sizes: Sizes,
    rank: usize,
    scale: f64,
    shape: Shape,
    /// The adapter's inner activation `scale x a^T`, `[rows, r]`, kept from the forward pass.
    inner: OnceLock<Tensor>,
}

impl Adapted {
    fn forward(&self, x: Operand<'_>) -> Result<(CudaStorage, Shape)> {
        let Sizes { rows, inner, out } = self.sizes;
        let (rank, scale, dtype) = (self.rank, self.scale, x.dtype());
        let w = self.w.dense(dtype)?;
        let y = with([&w, &self.a, &self.b], |[w, a, b]| {
            let y = linear::forward(x, w, self.sizes)?;
            let a = Side::new(a, rank, inner).t();
            let u = match &self.mask {
                None => product(Side::new(x, rows, inner), a, scale, dtype)?,
                Some(mask) => {
                    let masked = with([mask], |[mask]| vxf_cuda::masked(x, mask))?;
                    let masked = tensor(masked, (rows, inner));
                    with([&masked], |[x]| product(Side::new(x, rows, inner), a, scale, dtype))?
                }
            };
            let u = tensor(u, (rows, rank));
            with([&u], |[u]| {
                let y = Operand::whole(&y, rows * out);
                product_into(y, 1.0, Side::new(u, rows, rank), Side::new(b, out, rank).t())
            })?;
            // Each operation runs forward once, so the cell was empty.
            self.inner.get_or_init(|| u);
            Ok(y)
        })?;
        Ok((y, self.shape.clone()))
    }

    /// The gradient of the adapter's unscaled inner activation: `scale dy b`.
    fn back_down(&self, dy: &Tensor) -> Result<Tensor> {
        let Sizes { rows, out, .. } = self.sizes;
        let du = with([dy, &self.b], |[dy, b]| {
            let (dy, b) = (Side::new(dy, rows, out), Side::new(b, out, self.rank));
            product(dy, b, self.scale, self.b.dtype())
        })?;
        Ok(tensor(du, (rows, self.rank)))
    }

    /// The gradient of `x`: `dy w + (du a) * mask`.
    fn back_x(&self, dy: &Tensor, du: &Tensor) -> Result<CudaStorage> {
        let Sizes { rows, inner, .. } = self.sizes;
        let w = self.w.dense(dy.dtype())?;
        with([dy, &w, du, &self.a], |[dy, w, du, a]| {
            let dx = linear::back_x(dy, w, self.sizes)?;
            let sum = Operand::whole(&dx, rows * inner);
            let (du, a) = (Side::new(du, rows, self.rank), Side::new(a, self.rank, inner));
            match &self.mask {
                None => product_into(sum, 1.0, du, a)?,
                Some(mask) => {
                    let adapter = tensor(product(du, a, 1.0, dy.dtype())?, (rows, inner));
                    with([&adapter, mask], |[adapter, mask]| add_masked(sum, adapter, mask))?;
                }
            }
            Ok(dx)
        })
    }

    /// The gradient of `a`: `du^T (x * mask)`, in the type that `a` is trained in.
    fn back_a(&self, x: &Tensor, du: &Tensor, dtype: DType) -> Result<CudaStorage> {
        let Sizes { rows, inner, .. } = self.sizes;
        let masked = match &self.mask {
            None => x.clone(),
            Some(mask) => {
                let masked = with([x, mask], |[x, mask]| vxf_cuda::masked(x, mask))?;
                tensor(masked, (rows, inner))
            }
        };
        with([du, &masked], |[du, x]| {
            product(Side::new(du, rows, self.rank).t(), Side::new(x, rows, inner), 1.0, dtype)
        })
    }

    /// The gradient of `b`: `dy^T u`, where `u` includes the scale.
    fn back_b(&self, dy: &Tensor, dtype: DType) -> Result<CudaStorage> {
        let Sizes { rows, out, .. } = self.sizes;
        let Some(u) = self.inner.get() else {
            bail!("lora_linear: the backward pass ran before the forward pass");
        };
        with([dy, u], |[dy, u]| {
            product(Side::new(dy, rows, out).t(), Side::new(u, rows, self.rank), 1.0, dtype)
        })
    }
}

impl Kernel<1> for Adapted {
    const NAME: &'static str = "cuda-frozen-lora-linear";

    fn forward(&self, [x]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        self.forward(x)
    }

    fn backward(&self, [x]: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([if_tracked(x, || self.back_x(dy, &self.back_down(dy)?))?])
    }
}

impl Kernel<3> for Adapted {
    const NAME: &'static str = "cuda-lora-linear";

    fn forward(&self, [x, _, _]: [Operand<'_>; 3]) -> Result<(CudaStorage, Shape)> {
        self.forward(x)
    }

    fn backward(
        &self,
        [x, a, b]: [&Tensor; 3],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let db = if_tracked(b, || self.back_b(dy, b.dtype()))?;
        let du = self.back_down(dy)?;
        let da = if_tracked(a, || self.back_a(x, &du, a.dtype()))?;
        let dx = if_tracked(x, || self.back_x(dy, &du))?;
        Ok([dx, da, db])
    }
}
