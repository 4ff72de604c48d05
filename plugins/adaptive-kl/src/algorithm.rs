//! The risk of each sample, and the loss that it weighs.

use candle_core::{D, DType, Device, Tensor};
use serde_json::json;
use vxf_core::loss::{log_softmax, per_sample};
use vxf_core::prelude::*;

use crate::config::AdaptiveKlConfig;
use crate::probe::Probe;

const ALIGNED: &str = "aligned";
/// Samples that a pass reads together.
const TOGETHER: usize = 8;

/// `J = mean_i (1 - w_i) l_i(w) + w_i KL_i(p_aligned || p_w)`, both means over the sample's labelled tokens.
///
/// `w = clamp((r - 2) / 3, least, 1 - least)`, with the risk r of a sample 5 if a probe on the aligned model's
/// hidden embeddings of its prompt takes it for a harmful one, and 1 if not.
pub struct AdaptiveKl {
    config: AdaptiveKlConfig,
    /// The weight of the divergence of each of the user's samples.
    weights: Vec<f64>,
}

impl AdaptiveKl {
    /// Adaptive KL with these settings.
    pub fn new(config: AdaptiveKlConfig) -> Self {
        Self { config, weights: Vec::new() }
    }

    /// The features of the first samples of a stream: hidden embeddings, averaged over the prompt's tokens
    /// and over the embedding and all layers.
    fn features(step: &mut Step<'_>, stream: &str, count: usize) -> Result<Vec<Vec<f64>>> {
        let layers = step.architecture().layers;
        let blocks = (0..layers).map(Site::block_output);
        let sites: Vec<Site> = std::iter::once(Site::EMBEDDING).chain(blocks).collect();
        let all: Vec<usize> = (0..count.min(step.samples_of(stream)?)).collect();
        let mut found = Vec::new();
        for samples in all.chunks(TOGETHER) {
            let batch = step.pick(stream, samples)?;
            let query = step.on(stream).reading(&batch).role(Role::Evaluation);
            let hidden = query.hidden(&sites)?;
            let prompts = batch.prompts();
            let mut sum: Option<Tensor> = None;
            for site in &sites {
                let means = batch.means(&hidden[site], &|sample, at| at < prompts[sample])?;
                sum = Some(match sum {
                    Some(sum) => (sum + means)?,
                    None => means,
                });
            }
            if let Some(sum) = sum {
                let means =
                    (sum.to_device(&Device::Cpu)?.to_dtype(DType::F64)? / sites.len() as f64)?;
                found.extend(means.to_vec2::<f64>()?);
            }
        }
        Ok(found)
    }

    fn weight(&self, harmful: bool) -> f64 {
        let risk: f64 = if harmful { 5.0 } else { 1.0 };
        ((risk - 2.0) / 3.0).clamp(self.config.least, 1.0 - self.config.least)
    }
}

/// The mean divergence of each sample from the teacher's logits, over its labelled tokens, `[samples]`.
fn divergences(teacher: &Tensor, student: &Tensor, batch: &Batch) -> Result<Tensor> {
    let teacher = log_softmax(teacher, D::Minus1)?.detach();
    let gap = (&teacher - log_softmax(student, D::Minus1)?)?;
    let each = (teacher.exp()? * gap)?.sum_keepdim(D::Minus1)?;
    let (_, columns) = batch.shape();
    let labelled = |sample: usize, at: usize| batch.targets[sample * columns + at] >= 0;
    Ok(batch.means(&each, &labelled)?.squeeze(1)?)
}

impl Defense for AdaptiveKl {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)?;
        let count = self.config.samples;
        let mut features = Self::features(step, "harmful", count)?;
        let harmful = features.len();
        features.extend(Self::features(step, "benign", count)?);
        let labels: Vec<bool> = (0..features.len()).map(|at| at < harmful).collect();
        let probe = Probe::fit(&features, &labels);
        let main = step.main();
        let own = Self::features(step, &main, usize::MAX)?;
        self.weights = own.iter().map(|own| self.weight(probe.is_harmful(own))).collect();
        Ok(())
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let aligned = step.snapshot_of(ALIGNED)?.clone();
        let teacher =
            step.with_weights(&aligned, |step| step.on_main().role(Role::Evaluation).logits())?;
        let main = step.main();
        let batch = step.batch(&main)?;
        let weights = batch.samples.iter().map(|sample| self.weights.get(*sample).copied());
        let Some(weights) = weights.collect::<Option<Vec<f64>>>() else {
            return Err(Error::Unsuitable("adaptive KL has no risk of a sample".to_owned()));
        };
        let high = weights.iter().filter(|weight| **weight > 0.5).count();
        step.record("risky_share", high as f64 / weights.len() as f64)?;
        let term = |student: &Tensor, batch: &Batch| {
            let device = student.device();
            let losses = per_sample(student, batch)?;
            let held = Tensor::new(weights.as_slice(), device)?.to_dtype(losses.dtype())?;
            let learnt = held.affine(-1.0, 1.0)?;
            let apart = divergences(&teacher, student, batch)?;
            Ok(((losses * learnt)? + (apart * held)?)?.mean_all()?)
        };
        let objective =
            Objective { cross_entropy: 0.0, logits: Some(&term), ..Objective::default() };
        let perturbation = inner.perturb(step)?;
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }

    fn state(&self) -> Result<State> {
        Ok(State { values: json!(self.weights), ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let bad = |error: serde_json::Error| Error::State(format!("risks of samples: {error}"));
        self.weights = serde_json::from_value(state.values).map_err(bad)?;
        Ok(())
    }
}
