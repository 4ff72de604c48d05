//! The output projection of a language model, fused with its cross-entropy.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply1, apply2};

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, rows_of, same_kind};
use crate::compose;
use crate::kernel::{Real, View, add_product, blocks2, exponentiate, largest, matmul, soften};

/// Logits in memory at one time, within the bounds on rows.
const LOGITS: usize = 1 << 23;

/// Averages the cross-entropy of the logits `h w^T` over the labelled rows.
///
/// `h` is `[.., H]`, `w` is `[V, H]`, `targets` has one class for each row of `h`, negative for an
/// ignored row. `cap` is the soft cap of the logits, if there is one. The result is a scalar, `f64` if `h` is, else `f32`. Only the labelled rows are
/// computed, a few at a time, so that the logits are never in memory as a whole. The gradients of
/// `h` and `w` are computed together with the loss, each only if it is tracked.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match, a target is not below `V`, or every target is
/// negative.
pub fn linear_cross_entropy(
    h: &Tensor,
    w: &Tensor,
    targets: &[i64],
    cap: Option<f64>,
) -> Result<Tensor> {
    let labelled = labelled_rows(h, w, targets)?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(h) && cap.is_none() {
        return crate::cuda::linear_cross_entropy(h, w, &labelled);
    }
    if !fused(h) {
        return compose::linear_cross_entropy(h, w, targets, cap);
    }
    let (h, w) = (h.contiguous()?, w.contiguous()?);
    let head = Head {
        labelled,
        cap,
        h_shape: h.shape().clone(),
        w_shape: w.shape().clone(),
        need: [h.track_op(), w.track_op()],
        made: OnceLock::new(),
    };
    if w.track_op() {
        apply2([&h, &w], head)
    } else {
        apply1(&h, FrozenHead { head, w: frozen(&w)? })
    }
}

/// Checks the operands and lists the labelled rows with their classes.
pub(crate) fn labelled_rows(
    h: &Tensor,
    w: &Tensor,
    targets: &[i64],
) -> Result<Vec<(usize, usize)>> {
    same_kind("linear_cross_entropy", &[h, w])?;
    let (rows, width) = rows_of("linear_cross_entropy", h)?;
    let classes = match *w.dims() {
        [classes, w_width] if w_width == width => classes,
        _ => bail!(
            "linear_cross_entropy: h is {:?} but w is {:?}, not [V, {width}]",
            h.dims(),
            w.dims()
        ),
    };
    if targets.len() != rows {
        bail!("linear_cross_entropy: {} targets for h {:?}", targets.len(), h.dims());
    }
    let mut labelled = Vec::new();
    for (row, &target) in targets.iter().enumerate() {
        match usize::try_from(target) {
            Ok(class) if class < classes => labelled.push((row, class)),
            Ok(class) => bail!("linear_cross_entropy: target {class} of only {classes} classes"),
            Err(_) => {}
        }
    }
    if labelled.is_empty() {
        bail!("linear_cross_entropy: all {rows} targets are negative, so no row is labelled");
    }
    Ok(labelled)
}

/// The operation with a trained weight; also the shared part of both forms.
struct Head {
    labelled: Vec<(usize, usize)>,
    /// The soft cap of the logits.
    cap: Option<f64>,
    h_shape: Shape,
    w_shape: Shape,
    /// Whether the gradients of h and w are needed.
    need: [bool; 2],
    /// The gradients from the forward pass, for a cotangent of one.
    made: OnceLock<[Option<Tensor>; 2]>,
}

impl Head {
    fn forward<T: Real>(&self, h: &[T], w: &[T]) -> Result<(CpuStorage, Shape)> {
        let (classes, width) = self.w_shape.dims2()?;
        let [need_h, need_w] = self.need;
        let mut dh = if need_h { vec![T::ZERO; h.len()] } else { Vec::new() };
        let mut dw = Vec::new();

        let chunk = (LOGITS / classes).clamp(32, 256).min(self.labelled.len());
        let mut logits = vec![T::ZERO; chunk * classes];
        let mut gathered = vec![T::ZERO; chunk * width];
        let mut losses = vec![0.0; chunk];
        let weights = View::new(w, classes, width);
        let share = 1.0 / self.labelled.len() as f64;
        let mut total = 0.0;
        for labelled in self.labelled.chunks(chunk) {
            let rows = labelled.len();
            let logits = &mut logits[..rows * classes];
            let gathered = &mut gathered[..rows * width];
            let losses = &mut losses[..rows];
            for (to, &(row, _)) in labelled.iter().enumerate() {
                gathered[to * width..][..width].copy_from_slice(&h[row * width..][..width]);
            }
            matmul(logits, View::new(gathered, rows, width), weights.t());
            blocks2(
                (&mut *logits, classes),
                (&mut *losses, 1),
                #[inline(always)]
                |first, logits, losses| {
                    let rows = logits.chunks_exact_mut(classes).zip(losses);
                    for ((logits, loss), &(_, class)) in rows.zip(&labelled[first..]) {
                        let share = (need_h || need_w).then_some(share);
                        *loss = match self.cap {
                            None => row_loss(logits, class, share),
                            Some(cap) => capped_row_loss(logits, class, share, T::of(cap)),
                        };
                    }
                },
            );
            total += losses.iter().sum::<f64>();

            let slopes = View::new(logits, rows, classes);
            if need_w {
                add_product(&mut dw, slopes.t(), View::new(gathered, rows, width));
            }
            if need_h {
                matmul(gathered, slopes, weights);
                for (from, &(row, _)) in labelled.iter().enumerate() {
                    dh[row * width..][..width].copy_from_slice(&gathered[from * width..][..width]);
                }
            }
        }

        let dh = if need_h { Some(gradient(dh, &self.h_shape)?) } else { None };
        let dw = if need_w { Some(gradient(dw, &self.w_shape)?) } else { None };
        // Each operation runs forward once, so the cell was empty.
        self.made.get_or_init(|| [dh, dw]);
        Ok(output(vec![T::of(total * share)], &Shape::from(())))
    }

    /// The gradients for the incoming scalar gradient.
    fn backward(&self, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let Some([dh, dw]) = self.made.get() else {
            bail!("linear_cross_entropy: the backward pass ran before the forward pass");
        };
        let factor = dy.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let scaled = |grad: &Option<Tensor>| match grad {
            Some(grad) if factor != 1.0 => grad.affine(factor, 0.0).map(Some),
            grad => Ok(grad.clone()),
        };
        Ok([scaled(dh)?, scaled(dw)?])
    }
}

/// The loss of one row; with a `share`, also replaces its logits by their gradient.
#[inline(always)]
fn row_loss<T: Real>(logits: &mut [T], class: usize, share: Option<f64>) -> f64 {
    let picked = logits[class].wide();
    let top = largest(logits);
    let sum = exponentiate(logits).wide();
    if let Some(share) = share {
        let factor = T::of(share / sum);
        logits.iter_mut().for_each(|p| *p *= factor);
        logits[class] -= T::of(share);
    }
    top.wide() - picked + sum.ln()
}

/// [`row_loss`] with a soft cap on the logits; the gradient is that of the logits before it.
fn capped_row_loss<T: Real>(logits: &mut [T], class: usize, share: Option<f64>, cap: T) -> f64 {
    let mut slopes = vec![T::ZERO; logits.len()];
    soften(logits, cap, Some(&mut slopes));
    let loss = row_loss(logits, class, share);
    if share.is_some() {
        logits.iter_mut().zip(&slopes).for_each(|(logit, slope)| *logit *= *slope);
    }
    loss
}

impl CustomOp2 for Head {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        h_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(h.dtype(), T => {
            self.forward::<T>(elements(h, h_layout)?, elements(w, w_layout)?)
        })
    }

    fn bwd(
        &self,
        _h: &Tensor,
        _w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dh, dw] = self.backward(dy)?;
        Ok((dh, dw))
    }
}

/// The operation with a captured weight.
struct FrozenHead {
    head: Head,
    w: Tensor,
}

impl CustomOp1 for FrozenHead {
    fn name(&self) -> &'static str {
        "frozen-linear-cross-entropy"
    }

    fn cpu_fwd(&self, h: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(h.dtype(), T => {
            self.head.forward::<T>(elements(h, layout)?, flat(&self.w)?.slice()?)
        })
    }

    fn bwd(&self, _h: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [dh, _] = self.head.backward(dy)?;
        Ok(dh)
    }
}
