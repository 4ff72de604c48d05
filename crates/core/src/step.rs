//! What a defence and a perturber can ask for within one optimiser step.

mod query;
mod session;

use std::sync::Arc;

use candle_core::{DType, Device};

use crate::backbone::{Architecture, Backbone};
use crate::batch::Batch;
use crate::engine::Objective;
use crate::perturber::Perturbation;
use crate::{Error, Gradients, Params, Result};
use vxf_tensor::Key;
use vxf_tensor::Scalar;

pub use query::Query;
pub(crate) use query::Reader;
pub use session::Session;
use session::Watched;

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
