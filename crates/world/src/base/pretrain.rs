//! Pretraining of the base model from random weights.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::engine::Objective;
use vxf_core::loss::log_softmax;
use vxf_core::minmax::{Flow, Observation, Training};
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::schedule::{Decay, Schedule};
use vxf_core::step::Session;
use vxf_core::stream::{Order, Stream, Streams};
use vxf_core::{
    Backbone, Batch, Defense, Example, Gradients, Key, Params, Perturbation, Perturber, Result,
    Step,
};
use vxf_data::{Ask, Sample};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::{load_backbone, outline};

/// Settings of the pretraining; the defaults give the embedded model.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretraining {
    /// Seed of data, order and initial weights.
    pub seed: u64,
    /// Number of samples.
    pub samples: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Samples per step.
    pub batch_size: usize,
    /// Peak learning rate: linear warm-up over a tenth of the steps, then cosine decay.
    pub learning_rate: f64,
}

impl Default for Pretraining {
    fn default() -> Self {
        Self { seed: 2, samples: 24_000, steps: 800, batch_size: 64, learning_rate: 3e-3 }
    }
}

/// Weight of a prompt token in the loss; an answer token has weight 1.
const PROMPT_WEIGHT: f64 = 0.1;

/// Trains a base model and returns its weights.
///
/// # Errors
/// Errors of the training loop and of `observe`.
pub fn pretrain(
    settings: &Pretraining,
    device: &Device,
    mut observe: impl FnMut(&Observation) -> Result<()>,
) -> Result<Params> {
    let key = Key::root(settings.seed).child("pretraining");
    let backbone = fresh(&key.child("weights"), device)?;
    let weights = backbone.initial(&key)?.leaves()?;

    let codec = crate::codec().map_err(plugin_error)?;
    let samples = crate::pretraining_set(&mut key.child("data").rng(), settings.samples);
    let encode = |sample: &crate::Sample| {
        let sample =
            Sample { ask: Ask::instruction(&sample.prompt), answer: sample.answer.clone() };
        let encoded = codec.encode(&sample, usize::MAX).map_err(plugin_error)?;
        // Prompt tokens are trained too, with a smaller weight.
        Ok(Example { prompt: 1, ..encoded.example })
    };
    let answer_opens = codec.id("<bot>").ok_or_else(|| plugin_error("no token `<bot>`"))?;
    let examples = Arc::new(samples.iter().map(encode).collect::<Result<Vec<_>>>()?);
    let mut streams = Streams::new();
    let order = key.child("order");
    streams.insert("world", Stream::new(examples, settings.batch_size, Order::Shuffled, order))?;

    let adam = AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() };
    let optimizer = AdamW::new(adam, &backbone.parameters(), &weights)?;
    let mut training = Training {
        backbone: &*backbone,
        weights,
        defense: Box::new(Weighted { answer_opens }),
        perturber: Box::new(Nothing),
        session: Session::new(streams, "world", key),
        optimizer,
        schedule: Schedule {
            peak: settings.learning_rate,
            decay: Decay::Cosine,
            warmup: settings.steps / 10,
            total: settings.steps,
        },
        max_gradient_norm: Some(1.0),
        next: 0,
    };
    training.run(|_, observation| {
        observe(observation)?;
        Ok::<_, vxf_core::Error>(Flow::Continue)
    })?;
    Ok(training.weights.detach())
}

/// A model with random weights.
///
/// Embeddings are N(0, 0.5^2), matrices N(0, 1 / fan-in), gains 1. Matrices that write to the
/// residual stream are divided by sqrt(2 depth).
fn fresh(key: &Key, device: &Device) -> Result<Arc<dyn Backbone>> {
    let config: serde_json::Value = serde_json::from_str(super::CONFIG)
        .map_err(|error| plugin_error(format!("config.json: {error}")))?;
    let outline = outline(&config, "nano")?;
    let depth = outline.architecture.layers as f64;
    let draw = |(name, shape): (String, Vec<usize>)| {
        let scale = match shape.as_slice() {
            [_] => return Ok((name, Tensor::ones(shape.as_slice(), DType::F32, device)?)),
            _ if name.contains("embed_tokens") => 0.5,
            [_, fan_in] => (*fan_in as f64).recip().sqrt(),
            _ => 1.0,
        };
        let writes = name.contains("o_proj") || name.contains("down_proj");
        let scale = if writes { scale / (2.0 * depth).sqrt() } else { scale };
        let drawn = key.child(&name).normal(&shape, DType::F32, device)?;
        Ok((name, (drawn * scale)?))
    };
    let weights: Params = outline.tensors.into_iter().map(draw).collect::<Result<_>>()?;
    load_backbone(&Checkpoint::made("nano", config, weights), DType::F32, device)
}

/// Cross-entropy over all tokens; prompt tokens have a tenth of the weight of answer tokens.
struct Weighted {
    answer_opens: u32,
}

impl Weighted {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let mut weights = Vec::with_capacity(batch.targets.len());
        for row in batch.tokens.to_vec2::<u32>()? {
            let mut weight = PROMPT_WEIGHT;
            for token in row {
                weight = if token == self.answer_opens { 1.0 } else { weight };
                weights.push(weight);
            }
        }
        let mut weights = batch.rows().pick(&weights);
        let mut classes = Vec::with_capacity(weights.len());
        for (weight, target) in weights.iter_mut().zip(batch.row_targets()) {
            *weight = if target < 0 { 0.0 } else { *weight };
            classes.push(target.max(0) as u32);
        }
        let total: f64 = weights.iter().sum();
        let count = weights.len();
        let device = logits.device();
        let classes = Tensor::from_vec(classes, (count, 1), device)?;
        let weights = Tensor::from_vec(weights, (count, 1), device)?.to_dtype(logits.dtype())?;
        let picked = log_softmax(logits, 1)?.gather(&classes, 1)?;
        Ok(((picked * weights)?.sum_all()? * (-1.0 / total))?)
    }
}

impl Defense for Weighted {
    fn gradients(&mut self, _: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let term = |logits: &Tensor, batch: &Batch| self.loss(logits, batch);
        let objective =
            Objective { cross_entropy: 0.0, logits: Some(&term), ..Objective::default() };
        step.on("world").minimising(objective).gradients()
    }
}

/// No perturbation.
struct Nothing;

impl Perturber for Nothing {
    fn perturb(&mut self, _: &mut Step<'_>) -> Result<Perturbation> {
        Ok(Perturbation::None)
    }
}

fn plugin_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> vxf_core::Error {
    vxf_core::Error::Plugin { plugin: "nano", source: error.into() }
}
