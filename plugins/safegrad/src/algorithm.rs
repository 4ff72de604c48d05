//! The projected gradient.

use candle_core::{D, Tensor};
use vxf_core::loss::log_softmax;
use vxf_core::prelude::*;

use crate::config::{Loss, SafeGradConfig};

/// An alignment gradient of a smaller share of the user's is rounding and has no direction: that of the
/// divergence before the first step, without dropout.
const NOISE: f64 = 1e-6;

/// The weights before the stage.
const ALIGNED: &str = "aligned";

/// `g = g_u' + rho g_f`, where `g_u' = g_u - (g_u . g_f) / ||g_f||^2 g_f` if the product is negative, and
/// `g_u` otherwise. g_u is the gradient of the user's loss, g_f that of the alignment loss.
pub struct SafeGrad {
    config: SafeGradConfig,
}

impl SafeGrad {
    /// SafeGrad with these settings.
    pub fn new(config: SafeGradConfig) -> Self {
        Self { config }
    }
}

/// `KL(p_teacher || p_student)`, the mean over labelled positions.
fn divergence(teacher: &Tensor, student: &Tensor, batch: &Batch) -> Result<Tensor> {
    let targets = batch.row_targets().into_iter().zip(0u32..);
    let labelled: Vec<u32> = targets.filter(|(it, _)| *it >= 0).map(|(_, row)| row).collect();
    let labelled = Tensor::new(labelled, student.device())?;
    let of = |logits: &Tensor| log_softmax(&logits.index_select(&labelled, 0)?, D::Minus1);
    let teacher = of(&teacher.detach())?;
    let gap = (&teacher - of(student)?)?;
    Ok((teacher.exp()? * gap)?.sum(D::Minus1)?.mean_all()?)
}

/// The alignment loss of a micro-batch and its gradient, where the loss is [`Loss::Kl`].
fn apart(step: &mut Step<'_>) -> Result<Gradients> {
    let aligned = step.snapshot_of(ALIGNED)?.clone();
    let teacher =
        step.with_weights(&aligned, |step| step.on("alignment").role(Role::Evaluation).logits())?;
    let term = |student: &Tensor, batch: &Batch| divergence(&teacher, student, batch);
    let objective = Objective { cross_entropy: 0.0, logits: Some(&term), ..Objective::default() };
    let (loss, gradients) = step.on("alignment").minimising(objective).loss_and_gradients()?;
    step.record("alignment_loss", loss)?;
    Ok(gradients)
}

impl Defense for SafeGrad {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        match self.config.loss {
            Loss::CrossEntropy => Ok(()),
            Loss::Kl => step.snapshot(ALIGNED),
        }
    }

    fn per_step(&self) -> bool {
        // A projection is not linear in the batch.
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let user = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let aligned = match self.config.loss {
            Loss::CrossEntropy => {
                let (loss, aligned) = step.on("alignment").loss_and_gradients()?;
                step.record("alignment_loss", loss)?;
                aligned
            }
            Loss::Kl => step.accumulate(apart)?,
        };
        let (product, square) = (user.dot(&aligned)?, aligned.dot(&aligned)?);
        step.record("conflict", f64::from(u8::from(product < 0.0)))?;
        let directed = square > NOISE.powi(2) * user.dot(&user)?;
        let projected = match product < 0.0 && directed {
            true => user.add_scaled(&aligned, -product / square)?,
            false => user,
        };
        projected.add_scaled(&aligned, self.config.rho)
    }
}
