//! What a stage keeps between its steps, and the one time that a step waits for its device.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Batch;
use crate::engine::Recompute;
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
    /// Batches of the present step by stream, drawn when first asked for.
    pub(super) drawn: BTreeMap<String, Vec<Arc<Batch>>>,
    /// Figures of the present step.
    pub(super) record: BTreeMap<String, Scalar>,
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
