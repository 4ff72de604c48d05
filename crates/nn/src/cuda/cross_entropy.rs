//! The output projection fused with its cross-entropy, a few rows of logits at a time.

use std::sync::OnceLock;

use candle_core::{CudaStorage, DType, Result, Shape, Tensor, bail};
use vxf_cuda::{Operand, Side, product, product_into, tensor, with};

use super::{Kernel, apply_one, apply_two};

/// Logits in memory at one time, within the bounds on rows; the estimate in `run/src/plan/cost.rs` has the
/// same numbers.
const LOGITS: usize = 1 << 24;

/// Rows of a chunk: whole tiles of the matrix product, and enough of them that a large output projection is
/// not read again too often.
fn rows_at_once(classes: usize) -> usize {
    const TILE: usize = 128;
    (LOGITS / classes / TILE * TILE).clamp(1024, 4096)
}

/// See [`crate::ops::linear_cross_entropy`], which has checked the operands. The loss is `f32`.
pub(crate) fn linear_cross_entropy(
    h: &Tensor,
    w: &Tensor,
    labelled: &[(usize, usize)],
) -> Result<Tensor> {
    let count = labelled.len();
    let column = |values: Vec<u32>| Tensor::from_vec(values, count, h.device());
    let head = Head {
        count,
        rows: column(labelled.iter().map(|&(row, _)| row as u32).collect())?,
        classes: column(labelled.iter().map(|&(_, class)| class as u32).collect())?,
        shapes: [h.shape().clone(), w.shape().clone()],
        need: [h.track_op(), w.track_op()],
        made: OnceLock::new(),
    };
    if w.track_op() {
        apply_two([h, w], head)
    } else {
        apply_one(h, FrozenHead { head, w: w.detach().contiguous()? })
    }
}

struct Head {
    count: usize,
    /// The labelled rows, and the class of each.
    rows: Tensor,
    classes: Tensor,
    /// Of h and w.
    shapes: [Shape; 2],
    /// Whether the gradients of h and w are needed.
    need: [bool; 2],
    /// The gradients from the forward pass, for a cotangent of one.
    made: OnceLock<[Option<Tensor>; 2]>,
}

struct FrozenHead {
    head: Head,
    w: Tensor,
}

impl Head {
    fn forward(&self, h: Operand<'_>, w: Operand<'_>) -> Result<(CudaStorage, Shape)> {
        let [h_shape, w_shape] = &self.shapes;
        let (classes, width) = w_shape.dims2()?;
        let (device, dtype) = (self.rows.device(), h.dtype());
        let [need_h, need_w] = self.need;
        let zeros = |need: bool, shape: &Shape, dtype| {
            need.then(|| Tensor::zeros(shape, dtype, device)).transpose()
        };
        // Chunks are summed in f32.
        let (dh, dw) = (zeros(need_h, h_shape, dtype)?, zeros(need_w, w_shape, DType::F32)?);
        let losses = Tensor::zeros(self.count, DType::F32, device)?;
        let gradients = (need_h || need_w).then(|| (dtype, 1.0 / self.count as f64));

        let chunk = rows_at_once(classes);
        let weights = Side::new(w, classes, width);
        for first in (0..self.count).step_by(chunk) {
            let count = chunk.min(self.count - first);
            let block = (count, width);
            let gathered = with([&self.rows], |[rows]| vxf_cuda::gathered(h, rows, first, block))?;
            let gathered = tensor(gathered, block);
            let logits = with([&gathered], |[gathered]| {
                product(Side::new(gathered, count, width), weights.t(), 1.0, DType::F32)
            })?;
            let logits = tensor(logits, (count, classes));
            let slopes = with([&logits, &self.classes, &losses], |[logits, labels, losses]| {
                let sizes = (count, classes);
                vxf_cuda::cross_entropy(logits, labels, losses, first, sizes, gradients)
            })?;
            let Some(slopes) = slopes else { continue };
            let slopes = tensor(slopes, (count, classes));
            with([&slopes, &gathered], |[slopes, gathered]| {
                let slopes = Side::new(slopes, count, classes);
                if let Some(dw) = &dw {
                    let gathered = Side::new(gathered, count, width);
                    with([dw], |[dw]| product_into(dw, 1.0, slopes.t(), gathered))?;
                }
                if let Some(dh) = &dh {
                    let part = tensor(product(slopes, weights, 1.0, dtype)?, block);
                    with([&part, &self.rows, dh], |[part, rows, dh]| {
                        vxf_cuda::scattered(part, rows, first, dh, block)
                    })?;
                }
                Ok(())
            })?;
        }

        let dw = dw.map(|dw| dw.to_dtype(w.dtype())).transpose()?;
        // Each operation runs forward once, so the cell was empty.
        self.made.get_or_init(|| [dh, dw]);
        let loss = with([&losses], |[losses]| vxf_cuda::mean(losses))?;
        Ok((loss, Shape::from(())))
    }

    /// The gradients for the incoming scalar gradient.
    fn backward(&self, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let Some(made) = self.made.get() else {
            bail!("linear_cross_entropy: the backward pass ran before the forward pass");
        };
        let factor = dy.to_dtype(DType::F64)?;
        let scaled = |gradient: &Option<Tensor>| -> Result<Option<Tensor>> {
            let Some(gradient) = gradient else { return Ok(None) };
            let scaled = with([gradient, &factor], |[x, factor]| vxf_cuda::scaled_by(x, factor))?;
            Ok(Some(tensor(scaled, gradient.shape())))
        };
        let [dh, dw] = made;
        Ok([scaled(dh)?, scaled(dw)?])
    }
}

impl Kernel<2> for Head {
    const NAME: &'static str = "cuda-linear-cross-entropy";

    fn forward(&self, [h, w]: [Operand<'_>; 2]) -> Result<(CudaStorage, Shape)> {
        self.forward(h, w)
    }

    fn backward(&self, _: [&Tensor; 2], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        self.backward(dy)
    }
}

impl Kernel<1> for FrozenHead {
    const NAME: &'static str = "cuda-frozen-linear-cross-entropy";

    fn forward(&self, [h]: [Operand<'_>; 1]) -> Result<(CudaStorage, Shape)> {
        with([&self.w], |[w]| self.head.forward(h, w))
    }

    fn backward(&self, _: [&Tensor; 1], _: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let [dh, _] = self.head.backward(dy)?;
        Ok([dh])
    }
}
