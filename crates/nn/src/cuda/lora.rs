//! A frozen linear layer with a low-rank adapter, whose weights may be `f32` beside `bf16`.

use std::sync::{Arc, OnceLock};

use candle_core::{CudaStorage, DType, Result, Shape, Tensor, bail};
use vxf_cuda::{Dropout, Operand, Side, add_masked, masked, product, product_into, tensor, with};
use vxf_tensor::Mask;

use super::{Kernel, apply_one, apply_three, if_tracked, in_type, linear};
use crate::ops::{Matrix, Sizes, Weight};

/// See [`crate::ops::lora_linear`], which has checked the operands.
pub(crate) fn lora_linear(
    x: &Tensor,
    w: Weight<'_>,
    [a, b]: [&Tensor; 2],
    scale: f64,
    mask: Option<&Mask>,
    (sizes, shape): (Sizes, Shape),
) -> Result<Tensor> {
    let adapted = Adapted {
        w: w.held()?,
        a: in_type(a, x.dtype())?,
        b: in_type(b, x.dtype())?,
        dropped: mask.map(|mask| Dropped::of(mask, x)).transpose()?,
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
    dropped: Option<Dropped>,
    sizes: Sizes,
    rank: usize,
    scale: f64,
    shape: Shape,
    /// The adapter's inner activation `scale x a^T`, `[rows, r]`, kept from the forward pass.
    inner: OnceLock<Tensor>,
}

/// The dropout of the adapter's input.
enum Dropped {
    /// Drawn at each use: a mask kept for the backward pass would be as large as the input.
    Drawn(Arc<Dropout>),
    /// By these factors.
    Factors(Tensor),
}

impl Dropped {
    /// The dropout of `x` by `mask`, which may be on another device.
    fn of(mask: &Mask, x: &Tensor) -> Result<Self> {
        Ok(match mask.drawn() {
            Some(dropout) => Self::Drawn(dropout.clone()),
            None => Self::Factors(mask.factors(x.dtype())?.to_device(x.device())?.contiguous()?),
        })
    }

    fn applied(&self, x: Operand<'_>) -> Result<CudaStorage> {
        match self {
            Self::Drawn(dropout) => dropout.applied(x),
            Self::Factors(factors) => with([factors], |[factors]| masked(x, factors)),
        }
    }

    /// Adds `x` after dropout to `y`.
    fn add_applied(&self, y: Operand<'_>, x: Operand<'_>) -> Result<()> {
        match self {
            Self::Drawn(dropout) => dropout.add_applied(y, x),
            Self::Factors(factors) => with([factors], |[factors]| add_masked(y, x, factors)),
        }
    }
}

impl Adapted {
    fn forward(&self, x: Operand<'_>) -> Result<(CudaStorage, Shape)> {
        let Sizes { rows, inner, out } = self.sizes;
        let (rank, scale, dtype) = (self.rank, self.scale, x.dtype());
        let w = self.w.dense(dtype)?;
        let y = with([&w, &self.a, &self.b], |[w, a, b]| {
            let y = linear::forward(x, w, self.sizes)?;
            let a = Side::new(a, rank, inner).t();
            let u = match &self.dropped {
                None => product(Side::new(x, rows, inner), a, scale, dtype)?,
                Some(dropped) => {
                    let x = dropped.applied(x)?;
                    let x = Operand::whole(&x, rows * inner);
                    product(Side::new(x, rows, inner), a, scale, dtype)?
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
            match &self.dropped {
                None => product_into(sum, 1.0, du, a)?,
                Some(dropped) => {
                    let adapter = product(du, a, 1.0, dy.dtype())?;
                    dropped.add_applied(sum, Operand::whole(&adapter, rows * inner))?;
                }
            }
            Ok(dx)
        })
    }

    /// The gradient of `a`: `du^T (x * mask)`, in the type that `a` is trained in.
    fn back_a(&self, x: &Tensor, du: &Tensor, dtype: DType) -> Result<CudaStorage> {
        let Sizes { rows, inner, .. } = self.sizes;
        let dropped = match &self.dropped {
            None => x.clone(),
            Some(dropped) => tensor(with([x], |[x]| dropped.applied(x))?, (rows, inner)),
        };
        with([du, &dropped], |[du, x]| {
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
