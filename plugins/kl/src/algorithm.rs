//! KL: the user's loss plus the divergence from the aligned model.

use candle_core::{D, Tensor};
use vxf_core::loss::log_softmax;
use vxf_core::prelude::*;
use vxf_core::step::Query;

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

    /// `lambda * KL` of logits `[positions, vocabulary]` from the teacher's.
    fn divergence(&self, teacher: &Tensor, student: &Tensor, batch: &Batch) -> Result<Tensor> {
        let (samples, columns) = batch.shape();
        // The reference takes the softmax over time, not over the vocabulary.
        let timed = |logits: &Tensor| -> Result<Tensor> {
            Ok(match self.config.form {
                Form::Corrected | Form::AxisCorrected => log_softmax(logits, D::Minus1)?,
                Form::Reference => {
                    let shape = (samples, columns, logits.dim(1)?);
                    log_softmax(&logits.reshape(shape)?, D::Minus2)?
                }
            })
        };
        let teacher = timed(teacher)?.detach();
        let gap = (&teacher - timed(student)?)?;
        let mut terms = (teacher.exp()? * gap)?;
        if self.config.form == Form::Corrected && batch.padding != Padding::LeftOut {
            terms = terms.broadcast_mul(&batch.token_mask(&terms)?)?;
        }
        Ok((terms.sum_all()? * (self.config.lambda / samples as f64))?)
    }

    /// A query on the main stream, with padding computed where the form reads it.
    fn asked<'s, 'a>(&self, step: &'s mut Step<'a>) -> Query<'s, 'a> {
        match self.config.form {
            Form::Corrected => step.on_main(),
            Form::Reference | Form::AxisCorrected => step.on_main().rectangle(),
        }
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
        let teacher = step.with_weights(&aligned, |step| self.asked(step).role(role).logits())?;
        let perturbation = inner.perturb(step)?;
        let term = |student: &Tensor, batch: &Batch| self.divergence(&teacher, student, batch);
        let objective = Objective { logits: Some(&term), ..Objective::default() };
        self.asked(step).perturbed(&perturbation).minimising(objective).gradients()
    }
}
