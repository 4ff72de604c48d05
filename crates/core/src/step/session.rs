//! What a stage keeps between its steps, and the one point where a step waits for its device.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::draw::Draw;
use crate::backbone::Parameter;
use crate::engine::Recompute;
use crate::lineage::{Lineage, Reference};
use crate::stream::Streams;
use crate::{Error, Params, Result};
use vxf_tensor::Key;
use vxf_tensor::scalar::{Scalar, fetch};

/// What a stage keeps from step to step.
#[derive(Debug)]
pub struct Session {
    /// The streams, with their positions.
    pub streams: Streams,
    /// The main stream: `alignment` or `user`.
    pub main: String,
    /// Named copies of the weights.
    pub snapshots: BTreeMap<String, Params>,
    /// Root of all randomness of this stage.
    pub key: Key,
    /// What a pass keeps for its backward.
    pub recompute: Recompute,
    /// Micro-batches per optimiser step.
    pub accumulation: usize,
    /// The reference models of this stage.
    pub references: BTreeMap<Reference, Arc<dyn Lineage>>,
    /// What is trained, filled on first use.
    pub(super) parameters: OnceLock<Vec<Parameter>>,
    /// The trained weights that the defence [freezes](crate::Defense::freezes), by name, filled at the
    /// first step.
    pub(super) frozen: OnceLock<BTreeSet<String>>,
    /// Batches of the present step by stream, drawn on first use.
    pub(super) drawn: BTreeMap<String, Draw>,
    /// The number of probe passes of each micro-batch of each stream in the present step.
    pub(super) probes: BTreeMap<(String, usize), u64>,
    /// Figures of the present step.
    pub(super) record: BTreeMap<String, Scalar>,
    /// The main stream's loss in each micro-batch, at its last outer gradient.
    losses: BTreeMap<usize, OuterLoss>,
    /// Numbers of the present step that are still to be checked.
    pub(super) deferred: Vec<DeferredCheck>,
}

/// A number that must be finite, with the text of the error if it is not.
#[derive(Debug)]
pub(super) struct DeferredCheck {
    pub(super) value: Scalar,
    pub(super) quantity: String,
    pub(super) place: String,
}

/// The loss of an outer gradient of the main stream.
#[derive(Debug)]
struct OuterLoss {
    /// The loss times the share of the micro-batch.
    value: Scalar,
    /// Whether the caller got it together with the gradient.
    returned: bool,
}

/// The figure of the minimised loss.
pub(crate) const LOSS: &str = "loss";

impl Session {
    /// A new session.
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
            frozen: OnceLock::new(),
            drawn: BTreeMap::new(),
            probes: BTreeMap::new(),
            record: BTreeMap::new(),
            losses: BTreeMap::new(),
            deferred: Vec::new(),
        }
    }

    /// Stores the loss of an outer gradient of the main stream, replacing an earlier one; `micro`
    /// is none for the whole step.
    pub(super) fn remember_loss(&mut self, micro: Option<usize>, value: Scalar, returned: bool) {
        if micro.is_none() {
            self.losses.clear();
        }
        self.losses.insert(micro.unwrap_or(0), OuterLoss { value, returned });
    }

    /// Waits for the device and fetches all pending numbers of the step, among them the loss and
    /// `further`, which it returns. A step waits for its device only here.
    ///
    /// # Errors
    /// When a number that must be finite is not.
    pub(crate) fn synchronize(&mut self, step: u64, further: &[&Scalar]) -> Result<Vec<f64>> {
        let recorded = self.record.contains_key(LOSS);
        for OuterLoss { value, returned } in std::mem::take(&mut self.losses).into_values() {
            // A caller that got the loss and recorded one has recorded the whole loss.
            if !(returned && recorded) {
                let figure = self.record.entry(LOSS.to_owned()).or_default();
                *figure = figure.add(&value)?;
            }
        }
        self.fetch(step, further)
    }

    fn fetch(&mut self, step: u64, further: &[&Scalar]) -> Result<Vec<f64>> {
        let deferred = std::mem::take(&mut self.deferred);
        let pending = deferred.iter().map(|it| &it.value);
        let all: Vec<_> =
            pending.chain(self.record.values()).chain(further.iter().copied()).collect();
        let mut values = fetch(&all)?.into_iter();
        for (DeferredCheck { quantity, place, .. }, value) in deferred.into_iter().zip(&mut values)
        {
            if !value.is_finite() {
                return Err(Error::NotFinite { quantity, value, step, place });
            }
        }
        for (figure, value) in self.record.values_mut().zip(&mut values) {
            *figure = value.into();
        }
        Ok(values.collect())
    }

    /// Ends step `step`: drops its batches and returns its figures.
    pub(crate) fn end_step(&mut self, step: u64) -> Result<BTreeMap<String, f64>> {
        self.fetch(step, &[])?;
        self.drawn.clear();
        self.probes.clear();
        self.losses.clear();
        let figures = std::mem::take(&mut self.record);
        figures.into_iter().map(|(name, figure)| Ok((name, figure.value()?))).collect()
    }
}
