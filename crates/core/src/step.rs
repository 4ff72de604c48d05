//! What a defence and a perturber can ask for within one optimiser step.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::backbone::{Architecture, Backbone, Pass, Tap};
use crate::batch::Batch;
use crate::engine::{Evaluation, Objective, Outcome, Recompute};
use crate::perturber::Perturbation;
use crate::rng::Key;
use crate::scalar::{Scalar, settle};
use crate::site::{Hidden, Site};
use crate::stream::Streams;
use crate::{Error, Gradients, Params, Result};

/// Which pass of the step a query is, for the dropout masks it draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The pass whose gradient trains the weights. Vaccine's second pass and plain fine-tuning's
    /// only one draw the same masks.
    Outer,
    /// A pass that only informs: other masks than the outer one's.
    Probe,
    /// No dropout.
    Evaluation,
}

/// What a stage keeps from step to step.
#[derive(Debug)]
pub struct Session {
    /// The streams, with their positions.
    pub streams: Streams,
    /// The stream that the stage is about: `alignment` or `user`.
    pub main: String,
    /// Named copies of the weights.
    pub snapshots: BTreeMap<String, Params>,
    /// Root of all randomness of this stage.
    pub key: Key,
    /// What a pass keeps for its backward.
    pub recompute: Recompute,
    /// Micro-batches per optimiser step.
    pub accumulation: usize,
    /// Batches of the present step by stream, drawn when first asked for.
    drawn: BTreeMap<String, Vec<Arc<Batch>>>,
    /// Figures of the present step.
    record: BTreeMap<String, Scalar>,
    /// Numbers of the present step that are still to be looked at.
    watched: Vec<Watched>,
}

/// A number that has to be finite, and what to say of it if it is not.
#[derive(Debug)]
struct Watched {
    value: Scalar,
    quantity: String,
    place: String,
}

impl Session {
    /// A session at its beginning.
    pub fn new(streams: Streams, main: &str, key: Key) -> Self {
        Self {
            streams,
            main: main.to_owned(),
            snapshots: BTreeMap::new(),
            key,
            recompute: Recompute::default(),
            accumulation: 1,
            drawn: BTreeMap::new(),
            record: BTreeMap::new(),
            watched: Vec::new(),
        }
    }

    /// Fetches all numbers of this step that are still on their way, together with `further` ones,
    /// which it returns: the one time that a step waits for its device.
    ///
    /// # Errors
    /// When a number that was watched is not finite.
    pub(crate) fn settle(&mut self, step: u64, further: &[&Scalar]) -> Result<Vec<f64>> {
        let watched = std::mem::take(&mut self.watched);
        let looked_at = watched.iter().map(|it| &it.value);
        let all: Vec<_> =
            looked_at.chain(self.record.values()).chain(further.iter().copied()).collect();
        let mut values = settle(&all)?.into_iter();
        for (Watched { quantity, place, .. }, value) in watched.into_iter().zip(&mut values) {
            if !value.is_finite() {
                return Err(Error::NotFinite { quantity, value, step, place });
            }
        }
        for (figure, value) in self.record.values_mut().zip(&mut values) {
            *figure = value.into();
        }
        Ok(values.collect())
    }

    /// Forgets the batches of step `step` and hands over its figures.
    pub(crate) fn turn(&mut self, step: u64) -> Result<BTreeMap<String, f64>> {
        self.settle(step, &[])?;
        self.drawn.clear();
        let figures = std::mem::take(&mut self.record);
        figures.into_iter().map(|(name, figure)| Ok((name, figure.value()?))).collect()
    }
}

/// One micro-batch of one optimiser step, as a defence or a perturber sees it.
///
/// Start a query with [`Step::on`] and end it with one of its verbs; the most common one has a
/// short form, [`Step::gradients`].
pub struct Step<'a> {
    backbone: &'a dyn Backbone,
    weights: Params,
    session: &'a mut Session,
    index: u64,
    total: u64,
    micro: usize,
}

impl<'a> Step<'a> {
    /// Micro-batch `micro` of step `index` of `total`.
    pub fn new(
        backbone: &'a dyn Backbone,
        weights: &Params,
        session: &'a mut Session,
        (index, total): (u64, u64),
        micro: usize,
    ) -> Self {
        Self { backbone, weights: weights.clone(), session, index, total, micro }
    }

    /// Zero-based number of this optimiser step.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many optimiser steps the stage has.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The model's measures.
    pub fn architecture(&self) -> &Architecture {
        self.backbone.architecture()
    }

    /// Where the model lives.
    pub fn device(&self) -> &'a Device {
        self.backbone.device()
    }

    /// The type that the model computes in.
    pub fn dtype(&self) -> DType {
        self.backbone.dtype()
    }

    /// How many batches one pass over `stream` takes.
    pub fn batches_per_epoch(&self, stream: &str) -> Result<usize> {
        Ok(self.session.streams.get(stream)?.batches_per_epoch())
    }

    /// The weights that queries run with: the trained ones, unless inside [`Step::with_weights`].
    pub fn weights(&self) -> &Params {
        &self.weights
    }

    /// The stream that the stage is about.
    pub fn main(&self) -> String {
        self.session.main.clone()
    }

    /// Randomness for `purpose` that belongs to this micro-batch alone.
    pub fn key(&self, purpose: &str) -> Key {
        self.session.key.child(purpose).index(self.index).index(self.micro as u64)
    }

    /// This step's batch of `stream`; the same one however often it is asked for.
    pub fn batch(&mut self, stream: &str) -> Result<Arc<Batch>> {
        if !self.session.drawn.contains_key(stream) {
            self.redraw(stream)?;
        }
        Ok(self.session.drawn[stream][self.micro].clone())
    }

    /// Goes on to the next batch of `stream` within this step (simulated inner runs need many).
    pub fn redraw(&mut self, stream: &str) -> Result<()> {
        let device = self.backbone.device().clone();
        let draw = |_| self.session.streams.next(stream, &device).map(Arc::new);
        let batches = (0..self.session.accumulation).map(draw).collect::<Result<_>>()?;
        self.session.drawn.insert(stream.to_owned(), batches);
        Ok(())
    }

    /// The share of the step's labelled tokens of `stream` that lies in this micro-batch.
    pub fn share(&mut self, stream: &str) -> Result<f64> {
        if self.session.accumulation == 1 {
            return Ok(1.0);
        }
        let own = self.batch(stream)?.labelled();
        let all: usize = self.session.drawn[stream].iter().map(|batch| batch.labelled()).sum();
        if all == 0 {
            return Err(Error::NothingLabelled { stream: stream.to_owned() });
        }
        Ok(own as f64 / all as f64)
    }

    /// Adds to the figure `name` of this step; accumulated micro-batches count by their share.
    pub fn record(&mut self, name: &str, value: impl Into<Scalar>) -> Result<()> {
        let main = self.main();
        let value = value.into().times(self.share(&main)?)?;
        let figure = self.session.record.entry(name.to_owned()).or_default();
        *figure = figure.plus(&value)?;
        Ok(())
    }

    /// Sees to it that the run stops here if `value` is not finite; `place` is ` on stream ...` or
    /// empty. A number that is not at hand is looked at when the step waits for its device anyway,
    /// before any weight moves.
    ///
    /// # Errors
    /// When the number is at hand and not finite.
    pub fn watch(&mut self, quantity: &str, place: &str, value: &Scalar) -> Result<()> {
        let (quantity, place) = (quantity.to_owned(), place.to_owned());
        match value.known() {
            Some(value) if value.is_finite() => Ok(()),
            Some(value) => Err(Error::NotFinite { quantity, value, step: self.index, place }),
            None => {
                self.session.watched.push(Watched { value: value.clone(), quantity, place });
                Ok(())
            }
        }
    }

    /// Keeps an independent copy of the present weights under `name`.
    pub fn snapshot(&mut self, name: &str) -> Result<()> {
        let copy = self.weights.copy()?;
        self.session.snapshots.insert(name.to_owned(), copy);
        Ok(())
    }

    /// The snapshot called `name`.
    ///
    /// # Errors
    /// When it has not been taken.
    pub fn snapshot_of(&self, name: &str) -> Result<&Params> {
        let found = self.session.snapshots.get(name);
        found.ok_or_else(|| Error::UnknownSnapshot { name: name.to_owned() })
    }

    /// Runs `f` with other weights in place of the trained ones, which come back afterwards.
    pub fn with_weights<T>(
        &mut self,
        weights: &Params,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let own = std::mem::replace(&mut self.weights, weights.clone());
        let result = f(self);
        self.weights = own;
        result
    }

    /// Gradient of the main stream's loss at `perturbation`; records that loss as `loss`.
    pub fn gradients(&mut self, perturbation: &Perturbation) -> Result<Gradients> {
        let main = self.main();
        let (loss, gradients) = self.on(&main).perturbed(perturbation).loss_and_gradients()?;
        self.record("loss", loss)?;
        Ok(gradients)
    }

    /// A query on this step's batch of `stream`.
    pub fn on(&mut self, stream: &str) -> Query<'_, 'a> {
        Query {
            step: self,
            stream: stream.to_owned(),
            perturbation: Perturbation::None,
            objective: Objective::default(),
            role: Role::Outer,
        }
    }
}

/// A question about a stream, put together word by word and ended by a verb.
#[must_use = "end the query with a verb such as `gradients`"]
pub struct Query<'s, 'a> {
    step: &'s mut Step<'a>,
    stream: String,
    perturbation: Perturbation,
    objective: Objective<'s>,
    role: Role,
}

impl<'s> Query<'s, '_> {
    /// At this perturbation.
    pub fn perturbed(mut self, perturbation: &Perturbation) -> Self {
        self.perturbation = perturbation.clone();
        self
    }

    /// Of this objective instead of the plain cross-entropy.
    pub fn minimising(mut self, objective: Objective<'s>) -> Self {
        self.objective = objective;
        self
    }

    /// As a pass of this role, which decides the dropout masks.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// The gradient with respect to the weights.
    pub fn gradients(self) -> Result<Gradients> {
        Ok(self.loss_and_gradients()?.1)
    }

    /// The mean loss of this micro-batch, and the gradient with respect to the weights.
    ///
    /// The loop weighs what a defence returns by the main stream's share of labelled tokens.
    /// Gradients of other streams are scaled here so that their sum over micro-batches is the
    /// gradient of their own large batch.
    pub fn loss_and_gradients(self) -> Result<(Scalar, Gradients)> {
        let main = self.step.main();
        let balance = match self.stream == main {
            true => 1.0,
            false => self.step.share(&self.stream)? / self.step.share(&main)?,
        };
        let outcome = self.run(&[], true)?;
        Ok((outcome.loss, outcome.gradients.scale(balance)?))
    }

    /// The loss alone; waits for the device.
    pub fn loss(self) -> Result<f64> {
        self.run(&[], false)?.loss.value()
    }

    /// Gradients at sites; takes none of the weights.
    ///
    /// Of this micro-batch's contribution to the step's loss: the mean over *its* labelled tokens
    /// times its share of the step's. Returns the mean loss of the micro-batch beside them.
    pub fn site_gradients(self, sites: &[Site]) -> Result<(Scalar, Hidden)> {
        let share = self.step.share(&self.stream)?;
        let mut outcome = self.run(sites, false)?;
        if share != 1.0 {
            for gradient in outcome.at_sites.values_mut() {
                *gradient = (&*gradient * share)?;
            }
        }
        Ok((outcome.loss, outcome.at_sites))
    }

    /// The hidden embeddings at sites, cut off from any graph.
    pub fn hidden(self, sites: &[Site]) -> Result<Hidden> {
        let seen = std::cell::RefCell::new(Hidden::new());
        let reader = Reader { sites, seen: &seen };
        self.forward(&reader)?;
        reader.all_seen()?;
        Ok(seen.take())
    }

    /// The logits `[batch, sequence, vocabulary]`, cut off from any graph.
    pub fn logits(self) -> Result<Tensor> {
        self.forward(&crate::backbone::Untouched)
    }

    fn dropout(&self) -> Option<Key> {
        let key = self.step.key("dropout").child(&self.stream);
        match self.role {
            Role::Outer => Some(key.child("outer")),
            Role::Probe => Some(key.child("probe")),
            Role::Evaluation => None,
        }
    }

    fn forward(self, tap: &dyn Tap) -> Result<Tensor> {
        let batch = self.step.batch(&self.stream)?;
        let dropout = self.dropout();
        let backbone = self.step.backbone;
        let weights = self.step.weights.detach();
        let pass = Pass::new(&weights).with_padding_of(&batch).with_dropout(dropout.as_ref());
        let tapped = pass.with_tap(tap);
        let mut hidden = backbone.embed(&batch.tokens, &tapped)?;
        for layer in 0..backbone.architecture().layers {
            hidden = backbone.block(layer, &hidden, &tapped)?;
        }
        Ok(backbone.head(&hidden, &pass)?.detach())
    }

    fn run(self, sites: &[Site], weight_gradients: bool) -> Result<Outcome> {
        let batch = self.step.batch(&self.stream)?;
        if batch.labelled() == 0 {
            return Err(Error::NothingLabelled { stream: self.stream });
        }
        let dropout = self.dropout();
        let (perturbation, moved) = match &self.perturbation {
            Perturbation::None => (None, None),
            Perturbation::Hidden(hidden) => (Some(hidden), None),
            Perturbation::Weights(change) => {
                (None, Some(self.step.weights.add_scaled(change, 1.0)?))
            }
        };
        let outcome = Evaluation {
            backbone: self.step.backbone,
            weights: moved.as_ref().unwrap_or(&self.step.weights),
            batch: &batch,
            perturbation,
            objective: self.objective,
            sites,
            weight_gradients,
            dropout: dropout.as_ref(),
            recompute: self.step.session.recompute,
        }
        .run()?;
        let place = format!(" on stream `{}`", self.stream);
        self.step.watch("the loss", &place, &outcome.loss)?;
        Ok(outcome)
    }
}

/// Remembers hidden embeddings on their way.
pub(crate) struct Reader<'a> {
    pub(crate) sites: &'a [Site],
    pub(crate) seen: &'a std::cell::RefCell<Hidden>,
}

impl Reader<'_> {
    /// Fails when the backbone never came by one of the sites.
    pub(crate) fn all_seen(&self) -> Result<()> {
        let seen = self.seen.borrow();
        let Some(site) = self.sites.iter().find(|site| !seen.contains_key(site)) else {
            return Ok(());
        };
        Err(Error::UnknownSite { site: site.to_string(), known: "other sites".into() })
    }
}

impl Tap for Reader<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        if self.sites.contains(&site) {
            self.seen.borrow_mut().insert(site, hidden.detach());
        }
        Ok(hidden.clone())
    }
}
