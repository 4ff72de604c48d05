//! What a stage keeps between its steps, and the one time that a step waits for its device.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::draw::Draw;
use crate::backbone::Parameter;
use crate::engine::Recompute;
use crate::lineage::{Lineage, Reference};
use crate::stream::Streams;
use crate::{Error, Params, Result};
use vxf_tensor::Key;
use vxf_tensor::scalar::{Scalar, settle};

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
    /// The models to compare with that this stage was given.
    pub references: BTreeMap<Reference, Arc<dyn Lineage>>,
    /// What is trained, once it was asked for.
    pub(super) parameters: OnceLock<Vec<Parameter>>,
    /// Batches of the present step by stream, drawn when first asked for.
    pub(super) drawn: BTreeMap<String, Draw>,
    /// How many probing passes each micro-batch of each stream has had in the present step.
    pub(super) probes: BTreeMap<(String, usize), u64>,
    /// Figures of the present step.
    pub(super) record: BTreeMap<String, Scalar>,
    /// The main stream's loss in each micro-batch, at the gradient that was asked for last.
    losses: BTreeMap<usize, OuterLoss>,
    /// Numbers of the present step that are still to be looked at.
    pub(super) watched: Vec<Watched>,
}

/// A number that has to be finite, and what to say of it if it is not.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) value: Scalar,
    pub(super) quantity: String,
    pub(super) place: String,
}

/// The loss that an outer gradient of the main stream belongs to.
#[derive(Debug)]
struct OuterLoss {
    /// It times the share of the micro-batch.
    value: Scalar,
    /// Whether the caller was given it beside the gradient.
    returned: bool,
}

/// The figure that holds what is minimised.
pub(crate) const LOSS: &str = "loss";

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
            references: BTreeMap::new(),
            parameters: OnceLock::new(),
            drawn: BTreeMap::new(),
            probes: BTreeMap::new(),
            record: BTreeMap::new(),
            losses: BTreeMap::new(),
            watched: Vec::new(),
        }
    }

    /// Remembers the loss of an outer gradient of the main stream, in place of an earlier one;
    /// `micro` is none for the whole step.
    pub(super) fn remember_loss(&mut self, micro: Option<usize>, value: Scalar, returned: bool) {
        if micro.is_none() {
            self.losses.clear();
        }
        self.losses.insert(micro.unwrap_or(0), OuterLoss { value, returned });
    }

    /// Closes the books of a step's gradient: enters the loss among the figures, and fetches all
    /// numbers that are still on their way, together with `further` ones, which it returns. This is
    /// the one time that a step waits for its device.
    ///
    /// # Errors
    /// When a number that was watched is not finite.
    pub(crate) fn settle(&mut self, step: u64, further: &[&Scalar]) -> Result<Vec<f64>> {
        let recorded = self.record.contains_key(LOSS);
        for OuterLoss { value, returned } in std::mem::take(&mut self.losses).into_values() {
            // Whoever was given the loss and recorded one has recorded the whole.
            if !(returned && recorded) {
                let figure = self.record.entry(LOSS.to_owned()).or_default();
                *figure = figure.plus(&value)?;
            }
        }
        self.fetch(step, further)
    }

    fn fetch(&mut self, step: u64, further: &[&Scalar]) -> Result<Vec<f64>> {
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

    /// Ends step `step`: forgets its batches and hands over its figures.
    pub(crate) fn turn(&mut self, step: u64) -> Result<BTreeMap<String, f64>> {
        self.fetch(step, &[])?;
        self.drawn.clear();
        self.probes.clear();
        self.losses.clear();
        let figures = std::mem::take(&mut self.record);
        figures.into_iter().map(|(name, figure)| Ok((name, figure.value()?))).collect()
    }
}
