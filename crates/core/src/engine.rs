//! One differentiated pass through a backbone, block by block.
//!
//! The forward pass keeps each block's graph, or only its input. The backward pass takes one block
//! at a time, computes it again if only its input was kept, and starts from the gradient of its
//! output. One mechanism gives gradients at every site, bounded memory, and no gradient that was
//! not requested. A pass over one single graph gives the same numbers; tests use it as the
//! reference.

mod lens;
mod segment;
mod subset;

use candle_core::{Tensor, Var};

use crate::backbone::{Backbone, Pass, Tap, Untouched};
use crate::batch::Batch;
use crate::site::{Hidden, Site};
use vxf_tensor::autograd::{self, Store};
use vxf_tensor::{Key, Rows, Scalar, numeric};

use crate::Error::Unsuitable;
use crate::{Gradients, Params, Result};
pub use lens::Lens;
use segment::{Injection, Input, Kept, Segment};
pub use subset::Subset;

/// A loss over logits `[positions, vocabulary]` in `f32` or wider, a differentiable scalar.
/// [`Batch::rows`] is the index of their rows.
pub type LogitsLoss<'a> = &'a dyn Fn(&Tensor, &Batch) -> Result<Tensor>;

/// A loss over the mean cross-entropy of each sample, `[samples]` in `f32` or wider, a differentiable scalar. A sample
/// without labels has 0.
pub type SamplesLoss<'a> = &'a dyn Fn(&Tensor, &Batch) -> Result<Tensor>;

/// A loss over the hidden embeddings of several sites, a differentiable scalar. The lens reads hidden
/// embeddings of any layer as the last layer's output is read.
pub type HiddenLoss<'a> = &'a dyn Fn(&Hidden, &Lens<'_>) -> Result<Tensor>;

/// The objective of a pass: a weighted sum of terms.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    /// Weight of the mean cross-entropy over labelled positions.
    pub cross_entropy: f64,
    /// A further loss over the losses of the samples. No logits are kept for it.
    pub samples: Option<SamplesLoss<'a>>,
    /// A further loss over the logits.
    pub logits: Option<LogitsLoss<'a>>,
    /// A further loss over hidden embeddings, and the sites it reads.
    pub hidden: Option<(&'a [Site], HiddenLoss<'a>)>,
}

impl Default for Objective<'_> {
    /// The cross-entropy alone.
    fn default() -> Self {
        Self { cross_entropy: 1.0, samples: None, logits: None, hidden: None }
    }
}

/// How much of the forward is kept for the backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Block inputs only; each block is computed again in the backward.
    #[default]
    Block,
    /// Everything; each block's graph is freed as soon as the backward pass is through with it.
    None,
}

/// The inputs of one differentiated pass.
#[derive(Clone, Copy)]
pub struct Evaluation<'a> {
    /// The model.
    pub backbone: &'a dyn Backbone,
    /// Its trainable weights.
    pub weights: &'a Params,
    /// The samples.
    pub batch: &'a Batch,
    /// Added at sites.
    pub perturbation: Option<&'a Hidden>,
    /// The objective.
    pub objective: Objective<'a>,
    /// Sites whose gradient is computed.
    pub sites: &'a [Site],
    /// Whether gradients of the weights are computed.
    pub weight_gradients: bool,
    /// The weights whose gradients are computed; all of them if none is given.
    pub subset: Option<&'a Subset>,
    /// The key of dropout masks; `None` is evaluation mode.
    pub dropout: Option<&'a Key>,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
}

/// The results of one differentiated pass.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The value of the whole objective.
    pub loss: Scalar,
    /// Its gradient with respect to the weights; empty if not requested.
    pub gradients: Gradients,
    /// Its gradient at the requested sites.
    pub at_sites: Hidden,
}

impl<'a> Evaluation<'a> {
    /// An unperturbed pass of the cross-entropy with gradients of the weights.
    pub fn new(backbone: &'a dyn Backbone, weights: &'a Params, batch: &'a Batch) -> Self {
        Self {
            backbone,
            weights,
            batch,
            perturbation: None,
            objective: Objective::default(),
            sites: &[],
            weight_gradients: true,
            subset: None,
            dropout: None,
            recompute: Recompute::default(),
        }
    }

    fn pass<'b>(&self, weights: &'b Params, rows: &'b Rows, tap: &'b dyn Tap) -> Pass<'b>
    where
        'a: 'b,
    {
        Pass::new(weights, rows).with_tap(tap).with_dropout(self.dropout)
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
        self.walk(&self.differentiable()?)
    }

    /// The weights: leaves where a gradient is requested, detached elsewhere.
    fn differentiable(&self) -> Result<Params> {
        match (self.weight_gradients, self.subset) {
            (false, _) => Ok(self.weights.detach()),
            (true, None) => self.weights.leaves(),
            (true, Some(subset)) => subset.leaves(self.weights),
        }
    }

    fn walk(&self, weights: &Params) -> Result<Outcome> {
        let layers = self.backbone.architecture().layers;
        let lowest = self.lowest_layer().map_or(layers, |lowest| lowest.min(layers));
        let keeps = self.recompute == Recompute::None;
        let rows = &self.batch.rows();
        let frozen = weights.detach();
        let mut outcome = Outcome::default();
        let mut seen = Hidden::new();

        // Forward. Blocks below everything that is requested build no graph, and no block
        // differentiates its input unless something below needs it.
        let bottom = Segment::new(self, None, |_, tap| {
            let weights = if lowest == 0 { weights } else { &frozen };
            self.backbone.embed(&self.batch.row_tokens()?, &self.pass(weights, rows, tap))
        })?;
        let mut hidden = bottom.output_and_sites(&mut seen);
        let mut wanted_below = bottom.output.track_op();
        let mut kept = Vec::with_capacity(layers - lowest);
        for layer in 0..layers {
            let input = Input { layer, hidden, differentiate: wanted_below };
            if layer >= lowest && keeps {
                let segment = self.segment(&input, weights, rows, false)?;
                hidden = segment.output_and_sites(&mut seen);
                kept.push(Kept::Graph(segment));
            } else {
                let tap = Injection::new(self, false);
                hidden =
                    self.backbone.block(layer, &input.hidden, &self.pass(&frozen, rows, &tap))?;
                hidden = hidden.detach();
                seen.append(&mut tap.visited.take());
                if layer >= lowest {
                    kept.push(Kept::Input(input));
                }
            }
            wanted_below |= layer >= lowest;
        }
        let cotangents = self.hidden_loss(seen, weights, &mut outcome)?;

        // Head: its gradient is the first to go down.
        let mut gradient = None;
        if self.objective.has_head() {
            let whole = self.weight_gradients && self.subset.is_none();
            let leaf = (wanted_below || whole).then_some(&hidden);
            let top = Segment::new(self, leaf, |leaf, _| {
                self.head_objective(leaf.unwrap_or(&hidden), weights, rows)
            })?;
            outcome.loss = outcome.loss.add(&Scalar::of(&top.output)?)?;
            let seed = (top.output.clone(), top.output.ones_like()?);
            gradient = outcome.descend(top, vec![seed], weights)?;
        }
        drop(hidden);

        // Backward: one block after another, from the top.
        for kept in kept.into_iter().rev() {
            let segment = match kept {
                Kept::Graph(segment) => segment,
                Kept::Input(input) => self.segment(&input, weights, rows, true)?,
            };
            let seeds = segment.seeds(gradient, &cotangents);
            gradient = outcome.descend(segment, seeds, weights)?;
        }
        if bottom.output.track_op() {
            let seeds = bottom.seeds(gradient, &cotangents);
            outcome.descend(bottom, seeds, weights)?;
        }
        Ok(outcome)
    }

    /// A block as a graph of its own, computed for the first time or `again`.
    fn segment<'s>(
        &'s self,
        input: &Input,
        weights: &Params,
        rows: &Rows,
        again: bool,
    ) -> Result<Segment<'s>> {
        let leaf = input.differentiate.then_some(&input.hidden);
        Segment::new(self, leaf, |leaf, tap| {
            let hidden = leaf.unwrap_or(&input.hidden);
            let pass = self.pass(weights, rows, tap).with_output_unread(again);
            self.backbone.block(input.layer, hidden, &pass)
        })
    }

    /// The same pass over one single graph, differentiated by candle. Slow and large; tests compare
    /// [`Evaluation::run`] with it.
    ///
    /// # Errors
    /// As [`Evaluation::run`].
    pub fn run_as_one_graph(&self) -> Result<Outcome> {
        let weights = &self.differentiable()?;
        let mut outcome = Outcome::default();
        let tap = Injection::new(self, true);
        let rows = &self.batch.rows();
        let pass = self.pass(weights, rows, &tap);
        // The embedding gets its weights as a node of their own (storage is shared). If it is tied
        // to the output projection, its gradient is then summed over tokens before the projection's
        // is added, as in the block-by-block order.
        let apart = weights.map(|weight| Ok(weight.reshape(weight.shape())?))?;
        let tokens = self.batch.row_tokens()?;
        let mut hidden = self.backbone.embed(&tokens, &self.pass(&apart, rows, &tap))?;
        for layer in 0..self.backbone.architecture().layers {
            hidden = self.backbone.block(layer, &hidden, &pass)?;
        }
        let head = self.objective.has_head();
        let mut loss = head.then(|| self.head_objective(&hidden, weights, rows)).transpose()?;
        if let Some((_, term)) = self.objective.hidden {
            let pass = self.pass(weights, rows, &Untouched);
            let term = term(&tap.visited.borrow(), &Lens::new(self.backbone, &pass))?;
            loss = Some(match loss {
                Some(loss) => (&loss + autograd::cast(&term, loss.dtype())?)?,
                None => term,
            });
        }
        let Some(loss) = loss else { return Ok(outcome) };
        outcome.loss = Scalar::of(&loss)?;
        let mut store = Store::Candle(loss.backward()?);
        outcome.collect(&mut store, weights)?;
        tap.collect(&mut store, &mut outcome.at_sites)?;
        Ok(outcome)
    }

    /// The terms computed from the last layer's output.
    fn head_objective(&self, hidden: &Tensor, weights: &Params, rows: &Rows) -> Result<Tensor> {
        let Objective { cross_entropy, samples, logits, .. } = self.objective;
        let pass = self.pass(weights, rows, &Untouched);
        let targets = self.batch.row_targets();
        let logits = match logits {
            Some(term) => Some((term, numeric::widened(&self.backbone.head(hidden, &pass)?)?)),
            None => None,
        };
        let mut terms = Vec::new();
        if cross_entropy != 0.0 {
            let loss = match &logits {
                Some((_, logits)) => crate::loss::cross_entropy(logits, &targets)?,
                None => self.backbone.head_loss(hidden, &targets, &pass)?,
            };
            terms.push(if cross_entropy == 1.0 { loss } else { (loss * cross_entropy)? });
        }
        if let Some((term, logits)) = &logits {
            terms.push(term(logits, self.batch)?);
        }
        if let Some(term) = samples {
            terms.push(term(&self.sample_losses(hidden, &targets, &pass)?, self.batch)?);
        }
        let mut terms = terms.into_iter();
        let first = terms.next().ok_or_else(|| Unsuitable("an objective without a term".into()))?;
        terms.try_fold(first, |sum, term| Ok((&sum + term.to_dtype(sum.dtype())?)?))
    }

    /// The mean cross-entropy of each sample, one after another, so that no logits are kept.
    fn sample_losses(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        if targets.iter().all(|target| *target < 0) {
            return Err(Unsuitable("no labelled position in the batch".into()));
        }
        let none = numeric::widened(&Tensor::zeros((), hidden.dtype(), hidden.device())?)?;
        let losses = pass.rows().ranges().map(|range| {
            let targets = &targets[range.clone()];
            match targets.iter().any(|target| *target >= 0) {
                true => {
                    let own = hidden.narrow(0, range.start, range.len())?;
                    self.backbone.head_loss(&own, targets, pass)
                }
                false => Ok(none.clone()),
            }
        });
        Ok(Tensor::stack(&losses.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// Evaluates the hidden loss on detached leaves; its gradients are injected in the backward
    /// pass. Those of the head's weights, which a lens reads, are added at once.
    fn hidden_loss(
        &self,
        visited: Hidden,
        weights: &Params,
        outcome: &mut Outcome,
    ) -> Result<Hidden> {
        let Some((sites, term)) = self.objective.hidden else { return Ok(Hidden::new()) };
        let mut leaves = Hidden::new();
        for &site in sites {
            let hidden = visited.get(&site).ok_or_else(|| self.unknown(site))?;
            leaves.insert(site, Var::from_tensor(&hidden.detach())?.into_inner());
        }
        let rows = self.batch.rows();
        let pass = self.pass(weights, &rows, &Untouched);
        let loss = term(&leaves, &Lens::new(self.backbone, &pass))?;
        outcome.loss = outcome.loss.add(&Scalar::of(&loss)?)?;
        let mut store = Store::Candle(loss.backward()?);
        outcome.collect(&mut store, weights)?;
        let mut gradients = Hidden::new();
        for (site, leaf) in leaves {
            gradients.extend(store.remove(&leaf).map(|gradient| (site, gradient.detach())));
        }
        Ok(gradients)
    }

    fn wants(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    /// The lowest layer that the backward pass must reach; `None` when nothing below the head is
    /// requested.
    fn lowest_layer(&self) -> Option<usize> {
        let weights = self.weight_gradients.then(|| self.subset.map_or(0, Subset::lowest));
        self.sites.iter().map(|site| site.layer).chain(weights).min()
    }

    fn unknown(&self, site: Site) -> crate::Error {
        let layers = self.backbone.architecture().layers;
        crate::Error::UnknownSite { site: site.to_string(), known: format!("{layers} layers") }
    }
}

impl Objective<'_> {
    /// Whether a term uses the last layer's output.
    fn has_head(&self) -> bool {
        self.cross_entropy != 0.0 || self.samples.is_some() || self.logits.is_some()
    }
}

impl Outcome {
    /// Differentiates a segment; returns the gradient of its input.
    fn descend(
        &mut self,
        segment: Segment<'_>,
        seeds: Vec<(Tensor, Tensor)>,
        weights: &Params,
    ) -> Result<Option<Tensor>> {
        let Segment { leaf, tap, output, tape } = segment;
        // No other reference may keep alive what the tape frees.
        drop(output);
        tap.visited.take();
        let mut store = tape.backward(seeds)?;
        self.collect(&mut store, weights)?;
        tap.collect(&mut store, &mut self.at_sites)?;
        Ok(leaf.and_then(|leaf| store.remove(&leaf)))
    }

    fn collect(&mut self, store: &mut Store, weights: &Params) -> Result<()> {
        for (name, weight) in weights.iter().filter(|(_, weight)| weight.is_variable()) {
            if let Some(gradient) = store.remove(weight) {
                self.gradients.accumulate(name, gradient)?;
            }
        }
        Ok(())
    }
}
