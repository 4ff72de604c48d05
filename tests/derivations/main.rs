//! Every method against an independent form of its formula.
//!
//! Each test trains the toy in f64 for some steps in the loop, and again by hand: the gradient is written
//! down from the paper in plain candle operations that share only the batches with the program. All weights
//! must agree after each step, so state that a method carries from step to step is checked too.

mod alignment;
mod attacks;
mod data;
mod edits;
mod layerwise;
mod samples;
mod tokens;
mod unlearn;
mod user;
mod vectors;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde_json::Value;
use vxf as _;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::minmax::Training;
use vxf_core::stream::Stream;
use vxf_core::{Backbone, Batch, Composition, Key, Params, Result, registry};
use vxf_testkit::plain::{self, Weights};
use vxf_testkit::{Toy, ToyShape, training};

/// Batches of each stream, read one after the other, again from the start after the last.
struct Streams(Vec<(&'static str, Vec<Batch>)>);

impl Streams {
    /// Three batches for the main stream, the first of `names`, and as many more for each further one, so
    /// that streams do not start over together.
    fn new(toy: &Toy, names: &[&'static str]) -> Result<Self> {
        let batches = |(index, name): (usize, &&'static str)| {
            let key = Key::root(2).child(name);
            Ok((*name, training::batches(toy, 3 + index as u64, &key)?))
        };
        names.iter().enumerate().map(batches).collect::<Result<_>>().map(Self)
    }

    /// The batch that is read `at`-th, from 0.
    fn batch(&self, name: &str, at: u64) -> &Batch {
        let (_, all) = self.0.iter().find(|(known, _)| *known == name).expect("a known stream");
        &all[at as usize % all.len()]
    }

    fn streams(&self) -> Vec<(&'static str, Stream)> {
        self.0.iter().map(|(name, all)| (*name, Stream::of_batches(all.clone()))).collect()
    }
}

fn toy() -> Toy {
    let shape = ToyShape { layers: 3, ..ToyShape::default() };
    Toy::new(&shape, DType::F64, 1).expect("a toy")
}

/// The method `name` with these settings in a stage over `streams`; its perturber is `inner`.
fn stage<'a>(
    backbone: &'a dyn Backbone,
    streams: &Streams,
    (name, settings): (&str, Value),
    (inner, inner_settings): (&str, Value),
) -> Result<Training<'a>> {
    let context = BuildContext::bare();
    let entry = registry::find::<dyn DefenseConfig>(name)?;
    let config = (entry.parse)(settings).expect("settings in range");
    let mut defense = config.build(&context)?;
    if !config.makes_gradient() {
        defense = Box::new(Composition::new().with(entry.name, defense, false));
    }
    let entry = registry::find::<dyn PerturberConfig>(inner)?;
    let inner = (entry.parse)(inner_settings).expect("settings in range").build(&context)?;
    let weights = training::weights(backbone, 3)?;
    let mut stage = training::training(backbone, &weights, streams.streams(), defense, inner)?;
    stage.session.references = training::references(backbone, 5)?;
    Ok(stage)
}

/// No inner player.
fn none() -> (&'static str, Value) {
    ("none", serde_json::json!({}))
}

/// The gradient of the mean cross-entropy.
fn of_loss(weights: &Weights, batch: &Batch) -> Result<Weights> {
    plain::gradient(weights, |weights| Ok(plain::pass(weights, batch)?.loss))
}

/// A copy of `of` times `factor`.
fn scaled(of: &Weights, factor: f64) -> Result<Weights> {
    of.iter().map(|(name, tensor)| Ok((name.clone(), (tensor * factor)?))).collect()
}

/// The inner product over all tensors.
fn dot(a: &Weights, b: &Weights) -> Result<f64> {
    let mut sum = 0.0;
    for (name, a) in a {
        sum += (a * &b[name])?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum)
}

/// Zeros at the mixer outputs of `layers`, as further entries of `weights`, and their names.
fn with_sites(weights: &Weights, batch: &Batch, layers: &[usize]) -> Result<Weights> {
    let (rows, columns) = batch.shape();
    let width = weights["embedding.weight"].dim(1)?;
    let mut all = weights.clone();
    for layer in layers {
        let zeros = Tensor::zeros((rows, columns, width), DType::F64, &candle_core::Device::Cpu)?;
        all.insert(format!("site.{layer}"), zeros);
    }
    Ok(all)
}

/// The gradient of the loss at the mixer outputs of `layers`, where `at` is added already.
fn at_sites(
    weights: &Weights,
    batch: &Batch,
    layers: &[usize],
    at: &BTreeMap<usize, Tensor>,
) -> Result<BTreeMap<usize, Tensor>> {
    let extended = with_sites(weights, batch, layers)?;
    let gradient = plain::gradient(&extended, |weights| {
        let added = layers.iter().map(|layer| {
            let leaf = &weights[&format!("site.{layer}")];
            let sum = match at.get(layer) {
                Some(at) => (leaf + at)?,
                None => leaf.clone(),
            };
            Ok((*layer, sum))
        });
        Ok(plain::pass_at(weights, batch, &added.collect::<Result<_>>()?)?.loss)
    })?;
    layers.iter().map(|layer| Ok((*layer, gradient[&format!("site.{layer}")].clone()))).collect()
}

/// The L2 norm over all sites.
fn length(of: &BTreeMap<usize, Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for tensor in of.values() {
        sum += tensor.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}

/// The gradient of the loss at perturbed mixer outputs.
fn at_perturbation(
    weights: &Weights,
    batch: &Batch,
    added: &BTreeMap<usize, Tensor>,
) -> Result<Weights> {
    plain::gradient(weights, |weights| Ok(plain::pass_at(weights, batch, added)?.loss))
}

/// Checks that `ours` has the values of `theirs`. The bound allows sums in another order, whose errors AdamW's
/// division by small second moments amplifies.
fn agree(ours: &Params, theirs: &Weights) -> Result<()> {
    assert_eq!(ours.len(), theirs.len());
    for (name, ours) in ours.iter() {
        let off = (ours.detach() - &theirs[name])?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(off < 1e-9, "`{name}` is off by {off}");
    }
    Ok(())
}
