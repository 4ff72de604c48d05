//! RepNoise.

use candle_core::{Device, Tensor};
use vxf_core::prelude::*;

use crate::config::RepNoiseConfig;
use crate::harmful::{seen_by_all_layers, sites};
use crate::mmd::discrepancy;

/// `J = f(w) + beta mean_l MMD(m h_l, m z_l) - alpha log(1 + (h + sum_l h_l) / (L + 1))`.
///
/// f is the loss on alignment data. On harmful data, h_l in the first term is the MLP output of layer l and
/// z_l standard normal noise, both at the answer's positions m and elsewhere zero, a vector for each sample;
/// h and h_l in the last term are the losses as each layer sees them: its state, read by the
/// last norm and the output projection.
pub struct RepNoise {
    config: RepNoiseConfig,
}

impl RepNoise {
    /// RepNoise with these settings.
    pub fn new(config: RepNoiseConfig) -> Self {
        Self { config }
    }

    /// The terms on the harmful batch.
    fn harmful(
        &self,
        hidden: &Hidden,
        lens: &Lens<'_>,
        batch: &Batch,
        noise: &[Tensor],
    ) -> Result<Tensor> {
        let RepNoiseConfig { beta, alpha } = self.config;
        let layers = noise.len();
        let seen = seen_by_all_layers(hidden, lens, &batch.row_targets(), layers)?;
        let mut loss = (seen.log()? * -alpha)?;
        for (layer, noise) in noise.iter().enumerate() {
            let states = batch.rows().padded(&hidden[&Site::mlp_output(layer)])?;
            let masked = states.mul(&answers(batch, &states)?)?;
            let samples = masked.dim(0)?;
            let distance =
                discrepancy(&masked.reshape((samples, ()))?, &noise.reshape((samples, ()))?)?;
            let term = (distance * (beta / layers as f64))?;
            loss = (loss + term.to_dtype(seen.dtype())?)?;
        }
        Ok(loss)
    }
}

/// 1 at the answer's tokens, 0 elsewhere, in the shape `[samples, positions, width]` of `like`.
fn answers(batch: &Batch, like: &Tensor) -> Result<Tensor> {
    let (samples, columns) = batch.shape();
    // The target of a position is the token after it.
    let answered = |at: usize| !at.is_multiple_of(columns) && batch.targets[at - 1] >= 0;
    let mask: Vec<f32> =
        (0..samples * columns).map(|at| f32::from(u8::from(answered(at)))).collect();
    let mask = Tensor::from_vec(mask, (samples, columns, 1), &Device::Cpu)?;
    let longest = like.dim(1)?;
    let mask = mask.narrow(1, 0, longest)?.to_dtype(like.dtype())?.to_device(like.device())?;
    Ok(mask.broadcast_as(like.shape())?.contiguous()?)
}

impl Defense for RepNoise {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let aligned = step.gradients(&perturbation)?;

        let batch = step.batch("harmful")?;
        let (layers, width) = (step.architecture().layers, step.architecture().width);
        let shape = [batch.shape().0, batch.rows().longest(), width];
        let key = step.key("noise");
        let drawn = |layer: usize| -> Result<Tensor> {
            let noise = key.index(layer as u64).normal(&shape, step.dtype(), step.device())?;
            Ok(noise.mul(&answers(&batch, &noise)?)?)
        };
        let noise = (0..layers).map(drawn).collect::<Result<Vec<_>>>()?;
        let mut read = sites(layers);
        read.extend((0..layers).map(Site::mlp_output));
        let term = |hidden: &Hidden, lens: &Lens<'_>| self.harmful(hidden, lens, &batch, &noise);
        let objective =
            Objective { cross_entropy: 0.0, hidden: Some((&read, &term)), ..Objective::default() };
        let (loss, harmful) = step.on("harmful").minimising(objective).loss_and_gradients()?;
        step.record("harmful_terms", loss)?;
        aligned.add_scaled(&harmful, 1.0)
    }
}
