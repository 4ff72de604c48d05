//! The weighted loss, and the step of the scores.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};
use vxf_core::prelude::*;

use crate::config::BdsConfig;
use crate::scores::Scores;

/// `J = safe f(w) + mean_i w_i u_i(w)`, with u_i the loss of the user's sample i, the mean over its tokens, f
/// the mean of such losses on alignment data, and w the weights of the samples.
///
/// After each step the scores descend along `mean_i w_i u_i` with the u_i as they were: samples that safe
/// data keep from being learned lose weight.
pub struct Bds {
    config: BdsConfig,
    scores: Scores,
    /// The losses of the samples of this step.
    losses: Vec<(usize, f64)>,
}

impl Bds {
    /// BDS with these settings.
    pub fn new(config: BdsConfig) -> Self {
        Self { config, scores: Scores::none(), losses: Vec::new() }
    }
}

impl Defense for Bds {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        if self.scores.is_empty() {
            let main = step.main();
            self.scores = Scores::of(step.samples_of(&main)?, &step.kept_of(&main)?);
        }
        let perturbation = inner.perturb(step)?;
        let weights = self.scores.weights();
        let losses = RefCell::new(None);
        let weighted = |own: &Tensor, batch: &Batch| {
            losses.replace(Some(own.detach()));
            let weights: Vec<f64> = batch.samples.iter().map(|&sample| weights[sample]).collect();
            let weights = Tensor::new(weights, &Device::Cpu)?.to_dtype(own.dtype())?;
            Ok((own * weights.to_device(own.device())?)?.mean_all()?)
        };
        let objective =
            Objective { cross_entropy: 0.0, samples: Some(&weighted), ..Objective::default() };
        let query = step.on_main().perturbed(&perturbation).minimising(objective);
        let user = query.gradients()?;
        let batch = step.batch(&step.main())?;
        if let Some(found) = losses.take() {
            let found: Vec<f64> = found.to_dtype(DType::F64)?.to_vec1()?;
            self.losses.extend(batch.samples.iter().copied().zip(found));
        }

        let plain = |own: &Tensor, _: &Batch| Ok(own.mean_all()?);
        let objective =
            Objective { cross_entropy: 0.0, samples: Some(&plain), ..Objective::default() };
        let (loss, safe) = step.on("alignment").minimising(objective).loss_and_gradients()?;
        step.record("safe_loss", loss)?;
        user.add_scaled(&safe, self.config.safe)
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        let losses = std::mem::take(&mut self.losses);
        self.scores.step(&losses, self.config.score_rate);
        let weights = self.scores.weights_of_kept();
        step.record("least_weight", weights.iter().copied().fold(f64::MAX, f64::min))?;
        step.record("largest_weight", weights.iter().copied().fold(f64::MIN, f64::max))
    }

    fn state(&self) -> Result<State> {
        self.scores.state()
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.scores = Scores::restored(&state)?;
        Ok(())
    }
}
