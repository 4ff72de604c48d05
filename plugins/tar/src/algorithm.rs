//! The outer step of TAR, and the attacks that it simulates.

use candle_core::{D, Tensor};
use rand::Rng;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::prelude::*;

use crate::config::TarConfig;

/// The weights before training, which the retain term stays near.
const START: &str = "start";

/// Keeps a root differentiable at zero.
const EPSILON: f64 = 1e-12;

/// `g = lambda_tr sum_i w_i grad L_tr(w_i) + lambda_retain grad L_retain(w)`.
///
/// `w_i` is the model after i steps of a simulated attacker, AdamW on harmful data. L_tr is the negative
/// entropy of the predictions on harmful batches that the attacker skips, L_retain the loss on
/// alignment data plus the mean distance of hidden embeddings from those of the start model.
pub struct Tar {
    config: TarConfig,
}

impl Tar {
    /// TAR with these settings.
    pub fn new(config: TarConfig) -> Self {
        Self { config }
    }

    /// The sum of the tamper-resistance gradients along one simulated attack, and their mean loss.
    fn resistance(&self, step: &mut Step<'_>) -> Result<(f64, Gradients)> {
        let TarConfig { inner_steps, every, decay, rates, .. } = &self.config;
        let rate = rates[step.key("attack").rng().random_range(0..rates.len())];
        let mut attacked = step.weights().copy()?;
        let parameters = step.parameters().to_vec();
        let mut optimizer = AdamW::new(AdamWConfig::default(), &parameters, &attacked)?;
        let mut sum = step.weights().zeros_like()?;
        let (mut loss, mut count) = (0.0, 0);
        for inner in 0..*inner_steps {
            if inner > 0 {
                step.redraw("harmful")?;
            }
            let (_, gradients) = step.with_weights(&attacked, |step| {
                step.on("harmful").role(Role::Probe).loss_and_gradients()
            })?;
            optimizer.step(&mut attacked, &gradients, 1.0, rate)?;
            if (inner + 1) % every != 0 {
                continue;
            }
            step.redraw("harmful")?;
            let objective = Objective {
                cross_entropy: 0.0,
                logits: Some(&negative_entropy),
                ..Objective::default()
            };
            let (value, gradients) = step.with_weights(&attacked, |step| {
                let held_out = step.on("harmful").role(Role::Probe).minimising(objective);
                held_out.loss_and_gradients()
            })?;
            // Later points of the attack count more.
            let weight = (decay * (inner as f64 + 1.0 - *inner_steps as f64)).exp();
            sum = sum.add_scaled(&gradients, weight)?;
            (loss, count) = (loss + value.value()?, count + 1);
        }
        Ok((loss / f64::from(count.max(1)), sum))
    }

    /// The gradient of the retain term on one micro-batch.
    fn retain(&self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let layers = step.architecture().layers;
        let sites: Vec<_> = (0..layers).map(Site::block_output).collect();
        let start = step.snapshot_of(START)?.clone();
        let before =
            step.with_weights(&start, |step| step.on_main().role(Role::Evaluation).hidden(&sites))?;
        let factor = self.config.representation;
        let distance = |hidden: &Hidden, _: &Lens<'_>| {
            let mut sum: Option<Tensor> = None;
            for (site, now) in hidden {
                let apart = (now - &before[site])?.sqr()?.sum(D::Minus1)?;
                let own = ((apart + EPSILON)?.sqrt()?.mean_all()? * (factor / layers as f64))?;
                sum = Some(match sum {
                    Some(sum) => (sum + own)?,
                    None => own,
                });
            }
            sum.ok_or_else(|| Error::Unsuitable("TAR reads no hidden embedding".into()))
        };
        let hidden: Option<(&[Site], vxf_core::engine::HiddenLoss<'_>)> =
            (factor > 0.0).then_some((sites.as_slice(), &distance));
        let objective = Objective { hidden, ..Objective::default() };
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }
}

/// The negative entropy of the predictions at labelled positions, in nats: its mean.
fn negative_entropy(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    let labelled = batch.row_targets().into_iter().enumerate().filter(|(_, target)| *target >= 0);
    let rows: Vec<u32> = labelled.map(|(row, _)| row as u32).collect();
    let rows = Tensor::from_vec(rows.clone(), rows.len(), logits.device())?;
    let log_p = log_softmax(&logits.index_select(&rows, 0)?, D::Minus1)?;
    Ok((log_p.exp()? * log_p)?.sum(D::Minus1)?.mean_all()?)
}

impl Defense for Tar {
    fn per_step(&self) -> bool {
        true
    }

    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(START)
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let TarConfig { lambda_tr, lambda_retain, .. } = self.config;
        let retain = step.accumulate(|step| self.retain(inner, step))?;
        let (entropy, resistance) = self.resistance(step)?;
        step.record("attacked_negative_entropy", entropy)?;
        retain.scale(lambda_retain)?.add_scaled(&resistance, lambda_tr)
    }
}
