//! An independent form of the toy and its optimiser: one graph, plain candle operations.
//!
//! A test writes down a method's formula with this and compares it with the loop, step by step. It
//! shares only the batches with core. For example, a test of a penalty:
//!
//! ```
//! use candle_core::DType;
//! use vxf_core::stream::Stream;
//! use vxf_core::{Key, Perturbation, Result};
//! use vxf_testkit::training::{self, Nothing, defense_of};
//! use vxf_testkit::{Toy, ToyShape, plain};
//!
//! # fn main() -> Result<()> {
//! let toy = Toy::new(&ToyShape::default(), DType::F64, 1)?;
//! let batches = training::batches(&toy, 3, &Key::root(2))?;
//! let streams = vec![("main", Stream::of_batches(batches.clone()))];
//! // The method: the loss, and half the squared norm of the weights.
//! let method = defense_of(|step| {
//!     let weights = step.weights().clone();
//!     step.gradients(&Perturbation::None)?.add_scaled(&weights, 1.0)
//! });
//! let weights = training::weights(&toy, 3)?;
//! let stage = training::training(&toy, &weights, streams, method, Box::new(Nothing))?;
//!
//! plain::follow(stage, 5, |step, weights| {
//!     let batch = &batches[step as usize % batches.len()];
//!     plain::gradient(weights, |weights| {
//!         let mut loss = plain::pass(weights, batch)?.loss;
//!         for weight in weights.values() {
//!             loss = (loss + (weight.sqr()?.sum_all()? * 0.5)?)?;
//!         }
//!         Ok(loss)
//!     })
//! });
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor, Var};
use vxf_core::minmax::Training;
use vxf_core::{Batch, Params, Result};

use crate::numbers;

/// Weights or gradients by name.
pub type Weights = BTreeMap<String, Tensor>;

/// Independent copies of a set of weights.
pub fn weights(of: &Params) -> Result<Weights> {
    let copy = |(name, tensor): (&str, &Tensor)| Ok((name.to_owned(), tensor.detach().copy()?));
    of.iter().map(copy).collect()
}

/// The results of a forward pass. Padding is not hidden; outputs at real tokens do not depend on
/// it.
pub struct Passed {
    /// The mean cross-entropy.
    pub loss: Tensor,
    /// The logits.
    pub logits: Tensor,
    /// The outputs of the mixers, by layer.
    pub mixed: Vec<Tensor>,
    /// The outputs of the feed-forward blocks, by layer.
    pub mlps: Vec<Tensor>,
    /// The outputs of the layers.
    pub blocks: Vec<Tensor>,
    /// The token embeddings.
    pub embedded: Tensor,
    /// The inputs of the linear layers, by the layers' names.
    pub inputs: BTreeMap<String, Tensor>,
}

fn project(x: &Tensor, weights: &Weights, name: &str) -> candle_core::Result<Tensor> {
    x.broadcast_matmul(&weights[&format!("{name}.weight")].t()?)
}

/// The toy's forward pass without any hook: no dropout, no adapter.
pub fn pass(weights: &Weights, batch: &Batch) -> Result<Passed> {
    pass_at(weights, batch, &BTreeMap::new())
}

/// The same with these tensors `[rows, columns, width]` added to the outputs of mixers, by layer.
pub fn pass_at(
    weights: &Weights,
    batch: &Batch,
    added: &BTreeMap<usize, Tensor>,
) -> Result<Passed> {
    let (rows, columns) = batch.shape();
    let table = &weights["embedding.weight"];
    let width = table.dim(1)?;
    let mut hidden =
        table.index_select(&batch.tokens.flatten_all()?, 0)?.reshape((rows, columns, width))?;
    let mut mixer = vec![0.0f64; columns * columns];
    for to in 0..columns {
        for from in 0..=to {
            mixer[to * columns + from] = 0.6f64.powf((to - from) as f64);
        }
    }
    let mixer = Tensor::from_vec(mixer, (columns, columns), &Device::Cpu)?;

    let (embedded, mut inputs) = (hidden.clone(), BTreeMap::new());
    let (mut all_mixed, mut mlps, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for layer in 0.. {
        let name = |part: &str| format!("layers.{layer}.{part}");
        if !weights.contains_key(&name("mixer.v_proj.weight")) {
            break;
        }
        let value = project(&hidden, weights, &name("mixer.v_proj"))?.tanh()?;
        inputs.insert(name("mixer.v_proj"), hidden.clone());
        let joined = mixer.broadcast_matmul(&value)?;
        let mixed = project(&joined, weights, &name("mixer.o_proj"))?;
        inputs.insert(name("mixer.o_proj"), joined);
        let mixed = match added.get(&layer) {
            Some(added) => (mixed + added)?,
            None => mixed,
        };
        hidden = (hidden + &mixed)?;
        let up = project(&hidden, weights, &name("mlp.up_proj"))?;
        // silu by its definition
        let gated = (&up / (up.neg()?.exp()? + 1.0)?)?;
        let mlp = project(&gated, weights, &name("mlp.down_proj"))?;
        inputs.insert(name("mlp.up_proj"), hidden.clone());
        inputs.insert(name("mlp.down_proj"), gated);
        hidden = (&hidden + &mlp)?;
        all_mixed.push(mixed);
        mlps.push(mlp);
        blocks.push(hidden.clone());
    }

    let logits = lens(&hidden, weights)?;
    let loss = loss(&logits, batch)?;
    Ok(Passed { loss, logits, mixed: all_mixed, mlps, blocks, embedded, inputs })
}

/// The last norm.
pub fn normed(hidden: &Tensor, weights: &Weights) -> Result<Tensor> {
    let scale = (hidden.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.powf(-0.5)?;
    Ok(hidden.broadcast_mul(&scale)?.broadcast_mul(&weights["norm.weight"])?)
}

/// The logits of hidden embeddings of any layer.
pub fn lens(hidden: &Tensor, weights: &Weights) -> Result<Tensor> {
    Ok(project(&normed(hidden, weights)?, weights, "output")?)
}

/// The mean cross-entropy of logits `[rows, columns, vocabulary]` over the labelled positions.
pub fn loss(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    let (rows, columns) = batch.shape();
    let all = logits.exp()?.sum(D::Minus1)?.log()?.flatten_all()?;
    let (mut chosen, mut counted) = (Vec::new(), Vec::new());
    for target in &batch.targets {
        chosen.push((*target).max(0) as u32);
        counted.push(f64::from(u8::from(*target >= 0)));
    }
    let count: f64 = counted.iter().sum();
    let chosen = Tensor::from_vec(chosen, (rows, columns, 1), &Device::Cpu)?;
    let counted = Tensor::from_vec(counted, rows * columns, &Device::Cpu)?;
    let losses = (all - logits.gather(&chosen, 2)?.flatten_all()?)?;
    Ok(((losses * counted)?.sum_all()? / count)?)
}

/// The gradient of `loss` at `weights` by candle's own differentiation; zero for weights that it
/// does not depend on.
pub fn gradient(
    weights: &Weights,
    loss: impl FnOnce(&Weights) -> Result<Tensor>,
) -> Result<Weights> {
    let mut leaves = Weights::new();
    for (name, tensor) in weights {
        leaves.insert(name.clone(), Var::from_tensor(&tensor.detach())?.into_inner());
    }
    let store = loss(&leaves)?.backward()?;
    let mut gradients = Weights::new();
    for (name, leaf) in &leaves {
        let gradient = store.get(leaf).map_or_else(|| leaf.zeros_like(), |it| Ok(it.clone()))?;
        gradients.insert(name.clone(), gradient.detach());
    }
    Ok(gradients)
}

/// The L2 norm over all tensors.
pub fn norm(of: &Weights) -> Result<f64> {
    let mut sum = 0.0;
    for tensor in of.values() {
        sum += tensor.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}

/// `a + factor * b`.
pub fn plus(a: &Weights, b: &Weights, factor: f64) -> Result<Weights> {
    let sum = |(name, a): (&String, &Tensor)| Ok((name.clone(), (a + (&b[name] * factor)?)?));
    a.iter().map(sum).collect()
}

/// 1 at real tokens, `[batch, sequence, 1]`.
pub fn real(batch: &Batch) -> Result<Tensor> {
    let (rows, columns) = batch.shape();
    let at = |row: usize, column: usize| f64::from(u8::from(column < batch.lengths[row]));
    let mask = (0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column)));
    let mask: Vec<f64> = mask.collect();
    Ok(Tensor::from_vec(mask, (rows, columns, 1), &Device::Cpu)?.to_dtype(DType::F64)?)
}

/// AdamW as in the paper, after clipping to norm 1: rate 0.01, decay 0.1 on matrices, as in
/// [`training`](crate::training::training).
#[derive(Default)]
pub struct AdamW {
    moments: BTreeMap<String, (Vec<f64>, Vec<f64>, i32)>,
}

impl AdamW {
    /// Updates `weights`. Those without a gradient do not change; each counts its own steps.
    ///
    /// # Panics
    /// When there is a gradient without a weight.
    pub fn step(&mut self, weights: &mut Weights, gradient: &Weights) -> Result<()> {
        let clip = (1.0 / (norm(gradient)? + 1e-6)).min(1.0);
        for (name, gradient) in gradient {
            let weight = weights.get_mut(name).expect("a weight for each gradient");
            let decay = if weight.rank() > 1 { 0.1 } else { 0.0 };
            let g: Vec<f64> = gradient.flatten_all()?.to_vec1()?;
            let mut w: Vec<f64> = weight.flatten_all()?.to_vec1()?;
            let rest = || (vec![0.0; g.len()], vec![0.0; g.len()], 0);
            let (m, v, steps) = self.moments.entry(name.clone()).or_insert_with(rest);
            *steps += 1;
            for i in 0..g.len() {
                let g = g[i] * clip;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let m_hat = m[i] / (1.0 - 0.9f64.powi(*steps));
                let v_hat = v[i] / (1.0 - 0.999f64.powi(*steps));
                w[i] -= 0.01 * decay * w[i];
                w[i] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            }
            *weight = Tensor::from_vec(w, weight.shape(), &Device::Cpu)?;
        }
        Ok(())
    }
}

/// Trains `steps` steps in the loop and by hand, and compares all weights after each step. By hand,
/// the gradient is `gradient(step, weights)`.
///
/// Both must compute in f64; the bound of 1e-10 allows sums in another order, whose errors AdamW's
/// division by small second moments amplifies.
///
/// # Panics
/// When a weight differs, naming it and the step; when a computation fails.
pub fn follow(
    mut stage: Training<'_>,
    steps: u64,
    mut gradient: impl FnMut(u64, &Weights) -> Result<Weights>,
) {
    let mut by_hand = weights(&stage.weights).expect("copies");
    let mut optimizer = AdamW::default();
    stage.prepare().expect("prepared");
    for step in 0..steps {
        stage.step().expect("a step");
        let gradient = gradient(step, &by_hand).expect("a gradient");
        optimizer.step(&mut by_hand, &gradient).expect("a step by hand");
        for (name, ours) in stage.weights.iter() {
            let ours = numbers::entries(ours).expect("numbers");
            let theirs = numbers::entries(&by_hand[name]).expect("numbers");
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() <= 1e-10, "`{name}` after step {step}: {a} {b}");
            }
        }
    }
}
