//! KL: the user's loss plus the divergence from the aligned model.

use candle_core::{D, Tensor};
use vxf_core::loss::log_softmax;
use vxf_core::prelude::*;

use crate::config::{Form, KlConfig};

const ALIGNED: &str = "aligned";

/// `J = CE_user + lambda * KL(p_aligned || p_w)`.
///
/// The divergence is summed and divided by the number of samples (PyTorch's `batchmean`).
pub struct Kl {
    config: KlConfig,
}

impl Kl {
    /// KL with these settings.
    pub fn new(config: KlConfig) -> Self {
        Self { config }
    }

    /// `lambda * KL` of logits `[batch, sequence, vocabulary]` from the teacher's.
    fn divergence(&self, teacher: &Tensor, student: &Tensor, batch: &Batch) -> Result<Tensor> {
        let axis = match self.config.form {
            Form::Corrected | Form::AxisCorrected => D::Minus1,
            // The reference takes the softmax over time, not over the vocabulary.
            Form::Reference => D::Minus2,
        };
        let teacher = log_softmax(teacher, axis)?.detach();
        let gap = (&teacher - log_softmax(student, axis)?)?;
        let mut terms = (teacher.exp()? * gap)?;
        if self.config.form == Form::Corrected {
            terms = terms.broadcast_mul(&batch.token_mask(&terms)?)?;
        }
        let (samples, _) = batch.shape();
        Ok((terms.sum_all()? * (self.config.lambda / samples as f64))?)
    }
}

impl Defense for Kl {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let role = match self.config.form {
            Form::Corrected => Role::Evaluation,
            Form::Reference | Form::AxisCorrected => Role::Probe,
        };
        let aligned = step.snapshot_of(ALIGNED)?.clone();
        let teacher = step.with_weights(&aligned, |step| step.on_main().role(role).logits())?;
        let perturbation = inner.perturb(step)?;
        let term = |student: &Tensor, batch: &Batch| self.divergence(&teacher, student, batch);
        let objective = Objective { logits: Some(&term), ..Objective::default() };
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }
}
