//! The queries of a defence and a perturber within one optimiser step.

mod draw;
mod forward;
mod micro;
mod query;
mod session;

use std::cell::OnceCell;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::adapter::Trainable;
use crate::backbone::{Architecture, Backbone, Parameter};
use crate::lineage::{self, Lineage, Reference, ReferenceModel};
use crate::numeric::trained_in;
use crate::perturber::Perturbation;
use crate::{Error, Gradients, Params, Result};
use vxf_tensor::Key;
use vxf_tensor::Scalar;

pub(crate) use forward::Reader;
pub use query::Query;
use session::DeferredCheck;
pub(crate) use session::LOSS;
pub use session::Session;

/// The role of a query's pass, which decides its dropout masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The pass whose gradient trains the weights.
    ///
    /// All outer passes over one batch draw the same masks, so that Vaccine's second pass has the
    /// masks of plain fine-tuning's only pass.
    Outer,
    /// A pass whose gradient does not train the weights. Each draws masks of its own.
    Probe,
    /// No dropout.
    Evaluation,
}

/// One micro-batch of one optimiser step, or the whole step, as a defence or a perturber sees it.
///
/// Start a query with [`Step::on`] or [`Step::on_main`] and end it with one of its verbs; the most
/// common one has a short form, [`Step::gradients`]. [`crate::Defense::per_step`] decides which of
/// the two a defence gets. If it is the whole step, every query is [`Query::whole`].
pub struct Step<'a> {
    backbone: &'a dyn Backbone,
    weights: Params,
    /// The weights for callers, detached from those that the optimiser updates.
    shown: OnceCell<Params>,
    session: &'a mut Session,
    index: u64,
    total: u64,
    /// The micro-batch; none for the whole step.
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

    /// Leaves the weights that the defence freezes out of every gradient of the stage: theirs is zero. The
    /// defence is asked once.
    pub(crate) fn freeze(&self, freezes: impl Fn(&Parameter) -> bool) {
        let frozen = self.parameters().iter().filter(|parameter| freezes(parameter));
        let names = || frozen.map(|parameter| parameter.name.clone()).collect();
        self.session.frozen.get_or_init(names);
    }

    /// The names of the weights that the defence freezes.
    pub(crate) fn frozen(&self) -> impl Iterator<Item = &str> {
        self.session.frozen.get().into_iter().flatten().map(String::as_str)
    }

    /// Zero-based number of this optimiser step.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The number of optimiser steps in the stage.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The model's dimensions.
    pub fn architecture(&self) -> &Architecture {
        self.backbone.architecture()
    }

    /// The model's device.
    pub fn device(&self) -> &'a Device {
        self.backbone.device()
    }

    /// The type that the model computes in.
    pub fn dtype(&self) -> DType {
        self.backbone.dtype()
    }

    /// The number of batches in one pass over `stream`.
    pub fn batches_per_epoch(&self, stream: &str) -> Result<usize> {
        Ok(self.session.streams.get(stream)?.batches_per_epoch())
    }

    /// The number of samples in a batch of `stream`; the last batch of an epoch may have fewer.
    pub fn batch_size(&self, stream: &str) -> Result<usize> {
        Ok(self.session.streams.get(stream)?.batch_size())
    }

    /// The number of samples of `stream`, those included that a filter leaves out;
    /// [`Batch::samples`](crate::Batch::samples) are their indices.
    pub fn samples_of(&self, stream: &str) -> Result<usize> {
        Ok(self.session.streams.get(stream)?.samples())
    }

    /// The samples that `stream` reads. What [`Defense::keeps`](crate::Defense::keeps) leaves out is known from the
    /// first step on, and not yet in [`Defense::prepare`](crate::Defense::prepare).
    pub fn kept_of(&self, stream: &str) -> Result<Vec<usize>> {
        Ok(self.session.streams.get(stream)?.kept())
    }

    /// What is trained: name, shape, layer and part of each weight.
    pub fn parameters(&self) -> &[Parameter] {
        self.session.parameters.get_or_init(|| self.backbone.parameters())
    }

    /// What is trained: everything, or an adapter.
    pub fn trainable(&self) -> &'a Trainable {
        self.backbone.trainable()
    }

    /// A model to compare with, whose weights are read one at a time.
    ///
    /// # Errors
    /// When this stage does not have it.
    pub fn reference(&self, reference: Reference) -> Result<ReferenceModel<'_>> {
        let lineage = &**self.lineage(reference)?;
        let dtype = trained_in(self.backbone.dtype());
        Ok(ReferenceModel { lineage, dtype, device: self.backbone.device() })
    }

    fn lineage(&self, reference: Reference) -> Result<&Arc<dyn Lineage>> {
        let found = self.session.references.get(&reference);
        found.ok_or(Error::NoReference { reference })
    }

    /// Runs `f` with the model `reference` in place of the trained one: for its losses, logits and hidden
    /// embeddings; nothing is trained in it. It is loaded for `f` and freed afterwards, so that a second
    /// model is in memory meanwhile.
    ///
    /// # Errors
    /// When this stage does not have the model; when it cannot be loaded.
    pub fn with_reference<T>(
        &mut self,
        reference: Reference,
        f: impl FnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<T> {
        let (model, weights) = self.lineage(reference)?.model()?;
        // The stage keeps this list: it is that of the trained model.
        self.parameters();
        let Self { session, index, total, micro, .. } = self;
        let session = &mut **session;
        let shown = OnceCell::new();
        let mut step = Step {
            backbone: &*model,
            weights,
            shown,
            session,
            index: *index,
            total: *total,
            micro: *micro,
        };
        f(&mut step)
    }

    /// The weight of the linear layer, embedding or norm `module` under the trained `weights`, with an
    /// adapter merged in; see [`lineage::merged`].
    ///
    /// # Errors
    /// When the model has no such module; when `weights` lacks a part of it.
    pub fn merged(&self, weights: &Params, module: &str) -> Result<Tensor> {
        lineage::merged(self.backbone, weights, module)
    }

    /// The weights of queries: the trained ones, unless inside [`Step::with_weights`].
    ///
    /// They are for reading: detached from the trained ones, so that an optimiser that gets a clone
    /// of them updates a copy. Make an independent set with [`Params::copy`].
    pub fn weights(&self) -> &Params {
        self.shown.get_or_init(|| self.weights.detach())
    }

    /// The name of the stage's main stream.
    pub fn main(&self) -> String {
        self.session.main.clone()
    }

    /// A random key for `purpose`, of this micro-batch alone.
    pub fn key(&self, purpose: &str) -> Key {
        self.key_of(purpose, self.micro.unwrap_or(0))
    }

    fn key_of(&self, purpose: &str, micro: usize) -> Key {
        self.session.key.child(purpose).index(self.index).index(micro as u64)
    }

    /// Adds to the figure `name` of this step; micro-batches count by their share.
    ///
    /// The main stream's loss need not be recorded: `loss` is the loss at the last outer gradient
    /// of the main stream, by any verb. A recorded `loss` is added to it, for example a penalty.
    /// After [`Query::loss_and_gradients`], which returns the loss, a recorded `loss` replaces it.
    /// A method that trains on other streams alone records its `loss` itself.
    pub fn record(&mut self, name: &str, value: impl Into<Scalar>) -> Result<()> {
        let main = self.main();
        let value = value.into().mul(self.share(&main)?)?;
        let figure = self.session.record.entry(name.to_owned()).or_default();
        *figure = figure.add(&value)?;
        Ok(())
    }

    /// Stops the run at this step if `value` is not finite; `place` is ` on stream ...` or empty. A
    /// number that is still on its device is checked when the step next waits for the device,
    /// before any weight changes.
    ///
    /// # Errors
    /// When the number is on the host and not finite.
    pub fn require_finite(&mut self, quantity: &str, place: &str, value: &Scalar) -> Result<()> {
        let (quantity, place) = (quantity.to_owned(), place.to_owned());
        match value.known() {
            Some(value) if value.is_finite() => Ok(()),
            Some(value) => Err(Error::NotFinite { quantity, value, step: self.index, place }),
            None => {
                self.session.deferred.push(DeferredCheck { value: value.clone(), quantity, place });
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

    /// Runs `f` with other weights in place of the trained ones, which are restored afterwards.
    ///
    /// # Errors
    /// When `weights` is not a complete set of the trained weights.
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
