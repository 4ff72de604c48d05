//! One differentiated pass through a backbone, block by block.
//!
//! The forward walk builds no graph and keeps the block inputs only. The backward walk recomputes
//! one block at a time and seeds it with the gradient that came from above. That gives gradients
//! at every site, bounded memory and no gradient for what nobody asked for, in one mechanism. A
//! pass over one single graph gives the same numbers; it is the tests' oracle.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, Var};

use crate::backbone::{Backbone, Pass, Tap};
use crate::batch::Batch;
use crate::numeric::scalar;
use crate::rng::Key;
use crate::site::{Hidden, Site};
use crate::{Gradients, Params, Result};

/// A loss over logits `[batch, sequence, vocabulary]`, a differentiable scalar.
pub type LogitsLoss<'a> = &'a dyn Fn(&Tensor, &Batch) -> Result<Tensor>;

/// A loss over the hidden embeddings of several sites, a differentiable scalar.
pub type HiddenLoss<'a> = &'a dyn Fn(&Hidden) -> Result<Tensor>;

/// What a pass minimises: a weighted sum of terms.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    /// Weight of the mean cross-entropy over labelled positions.
    pub cross_entropy: f64,
    /// A further loss over the logits.
    pub logits: Option<LogitsLoss<'a>>,
    /// A further loss over hidden embeddings, and the sites it reads.
    pub hidden: Option<(&'a [Site], HiddenLoss<'a>)>,
}

impl Default for Objective<'_> {
    /// The cross-entropy alone.
    fn default() -> Self {
        Self { cross_entropy: 1.0, logits: None, hidden: None }
    }
}

/// How much of the forward is kept for the backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Block inputs only; each block is computed again in the backward.
    #[default]
    Block,
    /// Everything, in one graph.
    None,
}

/// One differentiated pass: what goes in.
#[derive(Clone, Copy)]
pub struct Evaluation<'a> {
    /// The model.
    pub backbone: &'a dyn Backbone,
    /// Its trainable weights.
    pub weights: &'a Params,
    /// The samples.
    pub batch: &'a Batch,
    /// What is added at sites.
    pub perturbation: Option<&'a Hidden>,
    /// What is minimised.
    pub objective: Objective<'a>,
    /// Sites whose gradient is wanted.
    pub sites: &'a [Site],
    /// Whether gradients of the weights are wanted; taking none saves their arithmetic.
    pub weight_gradients: bool,
    /// Where dropout masks are drawn; `None` is evaluation mode.
    pub dropout: Option<&'a Key>,
    /// What is kept for the backward.
    pub recompute: Recompute,
}

/// One differentiated pass: what comes out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The value of the whole objective.
    pub loss: f64,
    /// Its gradient with respect to the weights; empty when none was wanted.
    pub gradients: Gradients,
    /// Its gradient at the wanted sites.
    pub at_sites: Hidden,
}

impl<'a> Evaluation<'a> {
    /// An unperturbed pass of the cross-entropy that takes gradients of the weights.
    pub fn new(backbone: &'a dyn Backbone, weights: &'a Params, batch: &'a Batch) -> Self {
        Self {
            backbone,
            weights,
            batch,
            perturbation: None,
            objective: Objective::default(),
            sites: &[],
            weight_gradients: true,
            dropout: None,
            recompute: Recompute::default(),
        }
    }

    fn pass<'b>(&self, weights: &'b Params, tap: &'b dyn Tap) -> Pass<'b>
    where
        'a: 'b,
    {
        Pass::new(weights).with_tap(tap).with_padding_of(self.batch).with_dropout(self.dropout)
    }

    /// Runs the pass and differentiates it.
    ///
    /// # Errors
    /// When a site lies beyond the last layer; when an operation fails.
    pub fn run(&self) -> Result<Outcome> {
        let layers = self.backbone.architecture().layers;
        let perturbed = self.perturbation.into_iter().flat_map(Hidden::keys);
        if let Some(site) = self.sites.iter().chain(perturbed).find(|site| site.layer >= layers) {
            return Err(self.unknown(*site));
        }
        let weights = match self.weight_gradients {
            true => self.weights.leaves()?,
            false => self.weights.detach(),
        };
        match self.recompute {
            Recompute::Block => self.block_by_block(&weights),
            Recompute::None => self.single_graph(&weights),
        }
    }

    fn block_by_block(&self, weights: &Params) -> Result<Outcome> {
        let mut outcome =
            Outcome { loss: 0.0, gradients: Gradients::new(), at_sites: Hidden::new() };

        // Forward: block inputs are all that is kept.
        let frozen = weights.detach();
        let reader = Injection::reading(self);
        let pass = self.pass(&frozen, &reader);
        let mut hidden = self.backbone.embed(&self.batch.tokens, &pass)?.detach();
        let mut inputs = Vec::with_capacity(self.backbone.architecture().layers);
        for layer in 0..self.backbone.architecture().layers {
            inputs.push(hidden.clone());
            hidden = self.backbone.block(layer, &hidden, &pass)?.detach();
        }
        let cotangents = self.hidden_loss(reader.visited.take(), &mut outcome.loss)?;

        // Head: its gradient is the first seed.
        let leaf = Var::from_tensor(&hidden)?;
        drop(hidden);
        let mut gradient = match self.head_objective(leaf.as_tensor(), weights)? {
            Some(loss) => {
                outcome.loss += scalar(&loss)?;
                let mut store = loss.backward()?;
                outcome.collect(&mut store, weights)?;
                store.remove(&leaf).map(|gradient| gradient.detach())
            }
            None => None,
        };

        // Backward: recompute a block, seed it from above, go down.
        let lowest = self.lowest_layer();
        for (layer, input) in inputs.into_iter().enumerate().rev() {
            if lowest.is_none_or(|lowest| layer < lowest) {
                break;
            }
            let leaf = Var::from_tensor(&input)?;
            drop(input);
            let tap = Injection::differentiating(self, &cotangents);
            let output = self.backbone.block(layer, leaf.as_tensor(), &self.pass(weights, &tap))?;
            let mut store = tap.backward(&output, gradient.as_ref())?;
            outcome.collect(&mut store, weights)?;
            tap.collect(&mut store, &mut outcome.at_sites)?;
            gradient = store.remove(&leaf).map(|gradient| gradient.detach());
        }
        if lowest == Some(0) && (self.weight_gradients || self.wants(Site::EMBEDDING)) {
            let tap = Injection::differentiating(self, &cotangents);
            let output = self.backbone.embed(&self.batch.tokens, &self.pass(weights, &tap))?;
            if output.track_op() {
                let mut store = tap.backward(&output, gradient.as_ref())?;
                outcome.collect(&mut store, weights)?;
                tap.collect(&mut store, &mut outcome.at_sites)?;
            }
        }
        Ok(outcome)
    }

    fn single_graph(&self, weights: &Params) -> Result<Outcome> {
        let mut outcome =
            Outcome { loss: 0.0, gradients: Gradients::new(), at_sites: Hidden::new() };
        let no_cotangents = Hidden::new();
        let tap = Injection { read: true, ..Injection::differentiating(self, &no_cotangents) };
        let pass = self.pass(weights, &tap);
        // The embedding takes its weights under another node of the graph (storage is shared).
        // Where it is tied to the output, its gradient is then summed over tokens before it meets
        // the output's: the order in which it is added block by block.
        let apart = weights.map(|weight| Ok(weight.reshape(weight.shape())?))?;
        let mut hidden = self.backbone.embed(&self.batch.tokens, &self.pass(&apart, &tap))?;
        for layer in 0..self.backbone.architecture().layers {
            hidden = self.backbone.block(layer, &hidden, &pass)?;
        }
        let mut loss = self.head_objective(&hidden, weights)?;
        if let Some((_, term)) = self.objective.hidden {
            let term = term(&tap.visited.borrow())?;
            loss = Some(match loss {
                Some(loss) => (loss + term)?,
                None => term,
            });
        }
        let Some(loss) = loss else { return Ok(outcome) };
        outcome.loss = scalar(&loss)?;
        let mut store = loss.backward()?;
        outcome.collect(&mut store, weights)?;
        tap.collect(&mut store, &mut outcome.at_sites)?;
        Ok(outcome)
    }

    /// The terms that sit on top of the last layer.
    fn head_objective(&self, hidden: &Tensor, weights: &Params) -> Result<Option<Tensor>> {
        let Objective { cross_entropy, logits: term, .. } = self.objective;
        let tap = crate::backbone::Untouched;
        let pass = self.pass(weights, &tap);
        let scaled = |loss: Tensor| match cross_entropy {
            1.0 => Ok::<_, crate::Error>(loss),
            factor => Ok((loss * factor)?),
        };
        let Some(term) = term else {
            if cross_entropy == 0.0 {
                return Ok(None);
            }
            let loss = self.backbone.head_loss(hidden, &self.batch.targets, &pass)?;
            return scaled(loss).map(Some);
        };
        let logits = self.backbone.head(hidden, &pass)?;
        let mut loss = term(&logits, self.batch)?;
        if cross_entropy != 0.0 {
            let entropy = crate::loss::cross_entropy(&logits, &self.batch.targets)?;
            loss = (scaled(entropy)? + loss.to_dtype(logits.dtype())?)?;
        }
        Ok(Some(loss))
    }

    /// Evaluates the hidden loss on detached leaves; its gradients are injected at recompute.
    fn hidden_loss(&self, visited: Hidden, total: &mut f64) -> Result<Hidden> {
        let Some((sites, term)) = self.objective.hidden else { return Ok(Hidden::new()) };
        let mut leaves = Hidden::new();
        for &site in sites {
            let hidden = visited.get(&site).ok_or_else(|| self.unknown(site))?;
            leaves.insert(site, Var::from_tensor(&hidden.detach())?.into_inner());
        }
        let loss = term(&leaves)?;
        *total += scalar(&loss)?;
        let store = loss.backward()?;
        let gradient = |(site, leaf): (Site, Tensor)| Some((site, store.get(&leaf)?.detach()));
        Ok(leaves.into_iter().filter_map(gradient).collect())
    }

    fn wants(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    /// The lowest layer the backward has to reach; `None` when nothing below the head is wanted.
    fn lowest_layer(&self) -> Option<usize> {
        match self.weight_gradients {
            true => Some(0),
            false => self.sites.iter().map(|site| site.layer).min(),
        }
    }

    fn unknown(&self, site: Site) -> crate::Error {
        let layers = self.backbone.architecture().layers;
        crate::Error::UnknownSite { site: site.to_string(), known: format!("{layers} layers") }
    }
}

impl Outcome {
    fn collect(&mut self, store: &mut GradStore, weights: &Params) -> Result<()> {
        for (name, weight) in weights.iter().filter(|(_, weight)| weight.is_variable()) {
            if let Some(gradient) = store.remove(weight) {
                self.gradients.accumulate(name, gradient.detach())?;
            }
        }
        Ok(())
    }
}

/// The engine's tap: adds the perturbation, then a zero leaf whose gradient is the site's, and
/// remembers the embedding where a loss wants it or a known gradient enters.
struct Injection<'a> {
    evaluation: &'a Evaluation<'a>,
    read: bool,
    differentiate: bool,
    cotangents: Option<&'a Hidden>,
    visited: RefCell<Hidden>,
    leaves: RefCell<Hidden>,
}

impl<'a> Injection<'a> {
    fn reading(evaluation: &'a Evaluation<'a>) -> Self {
        Self {
            evaluation,
            read: true,
            differentiate: false,
            cotangents: None,
            visited: RefCell::default(),
            leaves: RefCell::default(),
        }
    }

    fn differentiating(evaluation: &'a Evaluation<'a>, cotangents: &'a Hidden) -> Self {
        Self {
            read: false,
            differentiate: true,
            cotangents: Some(cotangents),
            ..Self::reading(evaluation)
        }
    }

    /// Differentiates `output` under `gradient`, together with all known gradients at its sites.
    fn backward(&self, output: &Tensor, gradient: Option<&Tensor>) -> Result<GradStore> {
        let mut total = gradient.map(|gradient| seed(output, gradient)).transpose()?;
        for (site, hidden) in self.visited.borrow().iter() {
            let Some(cotangent) = self.cotangents.and_then(|all| all.get(site)) else { continue };
            let seeded = seed(hidden, cotangent)?;
            total = Some(match total {
                Some(total) => (total + seeded)?,
                None => seeded,
            });
        }
        // Nothing flows into this block: any backward will do, it finds no gradient.
        let total = total.map_or_else(|| seed(output, &output.zeros_like()?), Ok)?;
        Ok(total.backward()?)
    }

    fn collect(&self, store: &mut GradStore, at_sites: &mut Hidden) -> Result<()> {
        for (site, leaf) in self.leaves.borrow().iter() {
            // A loss that does not depend on a site has gradient zero there.
            let gradient = store.remove(leaf).map_or_else(|| leaf.zeros_like(), Ok)?;
            at_sites.insert(*site, gradient.detach());
        }
        Ok(())
    }
}

impl Tap for Injection<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        let mut hidden = hidden.clone();
        if let Some(added) = self.evaluation.perturbation.and_then(|all| all.get(&site)) {
            hidden = (hidden + added)?;
        }
        if self.differentiate && self.evaluation.wants(site) {
            let leaf = Var::zeros(hidden.shape(), hidden.dtype(), hidden.device())?.into_inner();
            hidden = (hidden + &leaf)?;
            self.leaves.borrow_mut().insert(site, leaf);
        }
        let reads =
            self.evaluation.objective.hidden.is_some_and(|(sites, _)| sites.contains(&site));
        let enters = self.cotangents.is_some_and(|all| all.contains_key(&site));
        if (self.read && reads) || enters {
            self.visited.borrow_mut().insert(site, hidden.clone());
        }
        Ok(hidden)
    }
}

/// A scalar zero whose gradient with respect to `output` is `cotangent`.
///
/// candle starts a backward pass at a scalar's own gradient of one; this hands a block a gradient
/// that is already known, without the product and the sum that `(output * cotangent).sum()` takes.
pub fn seed(output: &Tensor, cotangent: &Tensor) -> Result<Tensor> {
    match output.device().is_cpu() {
        true => Ok(output.apply_op1(Seed(cotangent.detach()))?),
        false => Ok((output * cotangent.detach())?.sum_all()?),
    }
}

struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, input: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let zero = match input {
            CpuStorage::F64(_) => CpuStorage::F64(vec![0.0]),
            _ => CpuStorage::F32(vec![0.0]),
        };
        Ok((zero, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
