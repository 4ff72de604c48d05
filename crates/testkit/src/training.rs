//! Builds stages of training in one line.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use vxf_core::backbone::Backbone;
use vxf_core::lineage::{Lineage, Reference};
use vxf_core::minmax::{Observation, Training};
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::schedule::{Decay, Schedule};
use vxf_core::step::Session;
use vxf_core::stream::{Order, Stream, Streams};
use vxf_core::{
    Batch, Defense, Gradients, Key, Params, Perturbation, Perturber, Result, Step, Trainable,
};

use crate::batches;

/// Plain fine-tuning: the defence that adds nothing to the loop.
pub struct Plain;

impl Defense for Plain {}

/// A defence whose gradient is the result of `f`.
pub fn defense_of(
    f: impl FnMut(&mut Step<'_>) -> Result<Gradients> + Send + 'static,
) -> Box<dyn Defense> {
    Box::new(Closure(Box::new(f), false))
}

/// The same, once per step instead of once per micro-batch.
pub fn defense_per_step(
    f: impl FnMut(&mut Step<'_>) -> Result<Gradients> + Send + 'static,
) -> Box<dyn Defense> {
    Box::new(Closure(Box::new(f), true))
}

type Act = dyn FnMut(&mut Step<'_>) -> Result<Gradients> + Send;

/// A defence made of a closure; the flag says whether it acts per step.
struct Closure(Box<Act>, bool);

impl Defense for Closure {
    fn per_step(&self) -> bool {
        self.1
    }

    fn gradients(&mut self, _: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        (self.0)(step)
    }
}

/// The inner player that does nothing.
pub struct Nothing;

impl Perturber for Nothing {
    fn perturb(&mut self, _step: &mut Step<'_>) -> Result<Perturbation> {
        Ok(Perturbation::None)
    }
}

/// Random trainable weights under `seed`, without special values.
///
/// A fresh adapter's second matrix is zero, and so are half of its gradients; here it is not.
pub fn weights(backbone: &dyn Backbone, seed: u64) -> Result<Params> {
    let key = Key::root(seed).child("weights");
    let start = backbone.initial(&key)?;
    let moved = start.iter().map(|(name, tensor)| {
        let noise = key.child(name).normal(tensor.dims(), tensor.dtype(), tensor.device())?;
        Ok((name.to_owned(), (tensor + (noise * 0.1)?)?))
    });
    moved.collect::<Result<Params>>()?.leaves()
}

/// A reference model that can run: all weights of a backbone, replaced.
struct Whole {
    backbone: Arc<dyn Backbone>,
    weights: Params,
}

impl Lineage for Whole {
    fn weight(&self, module: &str) -> Result<Tensor> {
        self.weights.weight(module)
    }

    fn model(&self) -> Result<(Arc<dyn Backbone>, Params)> {
        Ok((self.backbone.clone(), self.weights.clone()))
    }
}

/// Reference models: the backbone's own frozen weights for the base, and others near them.
pub fn references(
    backbone: &dyn Backbone,
    seed: u64,
) -> Result<BTreeMap<Reference, Arc<dyn Lineage>>> {
    let key = Key::root(seed).child("references");
    let tensors = backbone.tensors();
    let whole = |weights: Params| -> Result<Arc<dyn Lineage>> {
        Ok(Arc::new(Whole { backbone: backbone.with_trainable(&Trainable::Full)?, weights }))
    };
    let near = |name: &str| -> Result<Arc<dyn Lineage>> {
        let key = key.child(name);
        let moved = tensors.iter().map(|(name, tensor)| {
            let (dtype, device) = (tensor.dtype(), tensor.device());
            let noise = key.child(name).normal(tensor.dims(), dtype, device)?;
            Ok((name.to_owned(), (tensor + (noise * 0.1)?)?))
        });
        whole(moved.collect::<Result<Params>>()?)
    };
    Ok(BTreeMap::from([
        (Reference::Base, whole(tensors.clone())?),
        (Reference::Aligned, near("aligned")?),
        (Reference::Parent, near("parent")?),
    ]))
}

/// A stage over `streams`, the first of which is the main one, starting from a copy of `weights`:
/// AdamW with decay, clipping at 1, the constant rate 0.01, a hundred steps.
pub fn training<'a>(
    backbone: &'a dyn Backbone,
    weights: &Params,
    streams: Vec<(&str, Stream)>,
    defense: Box<dyn Defense>,
    perturber: Box<dyn Perturber>,
) -> Result<Training<'a>> {
    let main = streams.first().map_or("", |(name, _)| name).to_owned();
    let mut all = Streams::new();
    for (name, stream) in streams {
        all.insert(name, stream)?;
    }
    let weights = weights.copy()?.leaves()?;
    let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    Ok(Training {
        backbone,
        optimizer: AdamW::new(config, &backbone.parameters(), &weights)?,
        weights,
        defense,
        perturber,
        session: Session::new(all, &main, Key::root(11)),
        schedule: Schedule { peak: 0.01, decay: Decay::Constant, warmup: 0, total: 100 },
        max_gradient_norm: Some(1.0),
        next: 0,
    })
}

/// Streams of random samples that a method may read beside the main one.
pub fn beside_main(backbone: &dyn Backbone) -> impl Iterator<Item = (&'static str, Stream)> {
    let key = Key::root(12);
    let names = ["alignment", "user", "harmful", "guide", "calibration"];
    names.into_iter().map(move |name| (name, samples(backbone, 5, &key.child(name))))
}

/// A stage in which every step has `batches` as micro-batches.
pub fn accumulating<'a>(
    backbone: &'a dyn Backbone,
    weights: &Params,
    batches: Vec<Batch>,
    defense: Box<dyn Defense>,
    perturber: Box<dyn Perturber>,
) -> Result<Training<'a>> {
    let accumulation = batches.len();
    let mut streams = vec![("main", Stream::of_batches(batches))];
    streams.extend(beside_main(backbone));
    let mut training = training(backbone, weights, streams, defense, perturber)?;
    training.session.accumulation = accumulation;
    Ok(training)
}

/// The unclipped gradient of the first step of `training`.
pub fn gradient(mut training: Training<'_>) -> Result<(Observation, Gradients)> {
    training.max_gradient_norm = None;
    // With beta1 = 0, the first moment after one step is the gradient itself.
    let config = AdamWConfig { beta1: 0.0, ..AdamWConfig::default() };
    let parameters = training.backbone.parameters();
    training.optimizer = AdamW::new(config, &parameters, &training.weights)?;
    training.prepare()?;
    let observation = training.step()?;
    Ok((observation, training.optimizer.first))
}

/// Shuffled random samples of up to eight tokens, three to a batch.
pub fn samples(backbone: &dyn Backbone, count: usize, key: &Key) -> Stream {
    few_samples(backbone, count, 3, key)
}

/// The same in batches of this size.
pub fn few_samples(backbone: &dyn Backbone, count: usize, batch_size: usize, key: &Key) -> Stream {
    let vocabulary = backbone.architecture().vocabulary;
    let examples = batches::examples(count, 8, vocabulary, key);
    Stream::new(examples.into(), batch_size, Order::Shuffled, key.child("order"))
}

/// `count` random batches of three samples.
pub fn batches(backbone: &dyn Backbone, count: u64, key: &Key) -> Result<Vec<Batch>> {
    let vocabulary = backbone.architecture().vocabulary;
    (0..count).map(|number| batches::batch(3, 6, vocabulary, &key.index(number))).collect()
}
