//! What a defence and a perturber can ask for within one optimiser step.

mod draw;
mod forward;
mod micro;
mod query;
mod session;

use std::cell::OnceCell;

use candle_core::{DType, Device, Tensor};

use crate::adapter::Trainable;
use crate::backbone::{Architecture, Backbone, Parameter};
use crate::lineage::{self, Reference, ReferenceModel};
use crate::numeric::trained_in;
use crate::perturber::Perturbation;
use crate::{Error, Gradients, Params, Result};
use vxf_tensor::Key;
use vxf_tensor::Scalar;

pub(crate) use forward::Reader;
pub use query::Query;
pub(crate) use session::LOSS;
pub use session::Session;
use session::Watched;

/// Which pass of the step a query is, for the dropout masks it draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The pass whose gradient trains the weights.
    ///
    /// All outer passes over one batch draw the same masks: those of Vaccine's second pass are those
    /// of plain fine-tuning's only one.
    Outer,
    /// A pass that only informs. Each draws masks of its own.
    Probe,
    /// No dropout.
    Evaluation,
}

/// One micro-batch of one optimiser step, or the whole step, as a defence or a perturber sees it.
///
/// Start a query with [`Step::on`] or [`Step::on_main`] and end it with one of its verbs; the most
/// common one has a short form, [`Step::gradients`]. [`crate::Defense::per_step`] says which of the
/// two a defence is given. Where it is the whole step, every query is [`Query::whole`].
pub struct Step<'a> {
    backbone: &'a dyn Backbone,
    weights: Params,
    /// The same for whoever asks, cut off from what the optimiser moves.
    shown: OnceCell<Params>,
    session: &'a mut Session,
    index: u64,
    total: u64,
    /// The micro-batch that this is about; none for the whole step.
    micro: Option<usize>,
}

impl<'a> Step<'a> {
    /// Micro-batch `micro` of step `index` of `total`.
    pub fn new(
        backbone: &'a dyn Backbone,
        weights: &Params,
        session: &'a mut Session,
        at: (u64, u64),
        micro: usize,
    ) -> Self {
        Self { micro: Some(micro), ..Self::whole(backbone, weights, session, at) }
    }

    /// The whole of step `index` of `total`, with all of its micro-batches.
    pub fn whole(
        backbone: &'a dyn Backbone,
        weights: &Params,
        session: &'a mut Session,
        (index, total): (u64, u64),
    ) -> Self {
        let (weights, shown) = (weights.clone(), OnceCell::new());
        Self { backbone, weights, shown, session, index, total, micro: None }
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

    /// What is trained: name, shape, layer and part of each weight.
    pub fn parameters(&self) -> &[Parameter] {
        self.session.parameters.get_or_init(|| self.backbone.parameters())
    }

    /// Whether everything is trained, or an adapter, and which.
    pub fn trainable(&self) -> &'a Trainable {
        self.backbone.trainable()
    }

    /// A model to compare with, whose weights are read one at a time.
    ///
    /// # Errors
    /// When this stage was not given it.
    pub fn reference(&self, reference: Reference) -> Result<ReferenceModel<'_>> {
        let found = self.session.references.get(&reference);
        let lineage = &**found.ok_or(Error::NoReference { reference })?;
        let dtype = trained_in(self.backbone.dtype());
        Ok(ReferenceModel { lineage, dtype, device: self.backbone.device() })
    }

    /// The weight of the linear layer, embedding or norm `module` under the trained `weights`, with an
    /// adapter merged in; see [`lineage::merged`].
    ///
    /// # Errors
    /// When the model has no such module; when `weights` lacks a part of it.
    pub fn merged(&self, weights: &Params, module: &str) -> Result<Tensor> {
        lineage::merged(self.backbone, weights, module)
    }

    /// The weights that queries run with: the trained ones, unless inside [`Step::with_weights`].
    ///
    /// For reading: they are cut off from what is trained, and an optimiser that is given a clone of
    /// them moves a copy. Take an independent set with [`Params::copy`].
    pub fn weights(&self) -> &Params {
        self.shown.get_or_init(|| self.weights.detach())
    }

    /// The stream that the stage is about.
    pub fn main(&self) -> String {
        self.session.main.clone()
    }

    /// Randomness for `purpose` that belongs to this micro-batch alone.
    pub fn key(&self, purpose: &str) -> Key {
        self.key_of(purpose, self.micro.unwrap_or(0))
    }

    fn key_of(&self, purpose: &str, micro: usize) -> Key {
        self.session.key.child(purpose).index(self.index).index(micro as u64)
    }

    /// Adds to the figure `name` of this step; micro-batches count by their share.
    ///
    /// The main stream's loss needs no recording: `loss` is the one at the last outer gradient of the
    /// main stream that was asked for, by whichever verb. A `loss` that is recorded is added to it,
    /// as for a penalty; but after [`Query::loss_and_gradients`], which returns the loss, it stands
    /// for the whole. A method that trains on other streams alone records its `loss` itself.
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
    ///
    /// # Errors
    /// When `weights` is not a whole set of the trained weights.
    pub fn with_weights<T>(
        &mut self,
        weights: &Params,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        whole_set("with_weights", weights, &self.weights)?;
        let own = std::mem::replace(&mut self.weights, weights.clone());
        let shown = std::mem::take(&mut self.shown);
        let result = f(self);
        (self.weights, self.shown) = (own, shown);
        result
    }

    /// Gradient of the main stream's loss at `perturbation`.
    pub fn gradients(&mut self, perturbation: &Perturbation) -> Result<Gradients> {
        self.on_main().perturbed(perturbation).gradients()
    }

    /// A query on this step's batch of the main stream.
    pub fn on_main(&mut self) -> Query<'_, 'a> {
        let main = self.main();
        self.on(&main)
    }

    /// A query on this step's batch of `stream`.
    pub fn on(&mut self, stream: &str) -> Query<'_, 'a> {
        Query::new(self, stream)
    }
}

/// Checks that `given` has the names and shapes of `trained`.
pub(crate) fn whole_set(verb: &'static str, given: &Params, trained: &Params) -> Result<()> {
    let fail = |problem| Err(Error::WeightSet { verb, problem });
    let mut missing = trained.names().filter(|name| given.get(name).is_none());
    if let Some(name) = missing.next() {
        let (others, all) = (missing.count(), trained.len());
        let others = if others > 0 { format!(" and {others} others") } else { String::new() };
        return fail(format!(
            "`{name}`{others} of {all} are missing; start from `step.weights().clone()` and replace \
             those that differ"
        ));
    }
    for (name, tensor) in given.iter() {
        match trained.get(name) {
            None => return fail(format!("`{name}` is not trained in this stage")),
            Some(trained) if trained.dims() != tensor.dims() => {
                let (given, trained) = (tensor.dims(), trained.dims());
                return fail(format!("`{name}` is {given:?}, the trained one {trained:?}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
