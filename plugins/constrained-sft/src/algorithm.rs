//! The token-wise loss.

use candle_core::{D, Tensor};
use vxf_core::prelude::*;

use crate::config::ConstrainedSftConfig;

const ALIGNED: &str = "aligned";

/// `J = - mean_t 2 / beta_t log sigmoid(beta_t (log p(y_t) - log p_aligned(y_t)))` over answer tokens, where
/// t counts within each answer.
///
/// The value is given relative to that of the aligned model, so that it falls as training learns. For beta
/// towards 0 it is the cross-entropy, up to a constant; a large beta holds the token to the
/// aligned model.
pub struct ConstrainedSft {
    config: ConstrainedSftConfig,
}

impl ConstrainedSft {
    /// Constrained SFT with these settings.
    pub fn new(config: ConstrainedSftConfig) -> Self {
        Self { config }
    }

    /// The strength at the `t`-th answer token, from 0.
    fn beta(&self, t: usize) -> f64 {
        let ConstrainedSftConfig { first, early, early_tokens, rest } = self.config;
        match t {
            0 => first,
            t if t < early_tokens => early,
            _ => rest,
        }
    }

    fn loss(&self, logits: &Tensor, aligned: &Tensor, batch: &Batch) -> Result<Tensor> {
        let Labelled { rows, targets, betas } = self.labelled(batch);
        let count = rows.len();
        let device = logits.device();
        let rows = Tensor::from_vec(rows, count, device)?;
        let targets = Tensor::from_vec(targets, (count, 1), device)?;
        let chosen = |logits: &Tensor| -> Result<Tensor> {
            let log_p = log_softmax(&logits.index_select(&rows, 0)?, D::Minus1)?;
            Ok(log_p.gather(&targets, 1)?.squeeze(1)?)
        };
        let (student, teacher) = (chosen(logits)?, chosen(aligned)?.detach());
        let betas = Tensor::from_vec(betas, count, device)?.to_dtype(student.dtype())?;
        let x = ((student - teacher)? * &betas)?;
        // -log sigmoid(x) = m + log(exp(-m) + exp(-x - m)) for any m; m = max(-x, 0) keeps the exponents from
        // overflowing. As a constant: the slope of a maximum at 0, where training begins, would be wrong.
        let m = x.neg()?.relu()?.detach();
        let bounded = (&m + (m.neg()?.exp()? + (x.neg()? - &m)?.exp()?)?.log()?)?;
        let relative = (bounded - std::f64::consts::LN_2)?;
        Ok((relative * (betas.recip()? * 2.0)?)?.mean_all()?)
    }

    /// The labelled rows of a batch.
    fn labelled(&self, batch: &Batch) -> Labelled {
        let rows = batch.rows();
        let samples = rows.positions().map(|(sample, _)| sample);
        let mut found = Labelled::default();
        let (mut sample, mut t) = (usize::MAX, 0);
        for (row, (target, own)) in batch.row_targets().into_iter().zip(samples).enumerate() {
            if target < 0 {
                continue;
            }
            t = if own == sample { t + 1 } else { 0 };
            sample = own;
            found.rows.push(row as u32);
            found.targets.push(target as u32);
            found.betas.push(self.beta(t));
        }
        found
    }
}

/// Row, token and strength of each answer token.
#[derive(Default)]
struct Labelled {
    rows: Vec<u32>,
    targets: Vec<u32>,
    betas: Vec<f64>,
}

impl Defense for ConstrainedSft {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let weights = step.snapshot_of(ALIGNED)?.clone();
        let aligned =
            step.with_weights(&weights, |step| step.on_main().role(Role::Evaluation).logits())?;
        let term = |logits: &Tensor, batch: &Batch| self.loss(logits, &aligned, batch);
        let objective =
            Objective { cross_entropy: 0.0, logits: Some(&term), ..Objective::default() };
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }
}
