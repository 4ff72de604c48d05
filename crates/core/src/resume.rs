//! Saves a training between two steps and resumes it in another process.
//!
//! [`Saved`] holds everything that the next step depends on and that the recipe does not fix.
//! Samples, their order and the schedule follow from the recipe. Randomness is keyed by the step
//! (see [`vxf_tensor::rng`]), so the step number is the position of every random stream. Batches
//! follow from the position of each data stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::defense::State;
use crate::minmax::Training;
use crate::{Error, Params, Result};

/// The state of a training between two steps.
///
/// The tensors share storage with the training: write them to disk before the next step changes
/// them.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Groups of tensors by name: the weights, the optimiser's moments, snapshots, and the state of
    /// the two players.
    pub tensors: BTreeMap<String, Params>,
    /// Everything that is not a tensor.
    pub position: Position,
}

/// The position of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The next step to take.
    pub next: u64,
    /// The number of steps in the stage.
    pub total: u64,
    /// Micro-batches per step.
    pub accumulation: usize,
    /// Steps that the optimiser has taken.
    pub optimizer_steps: u64,
    /// By weight, the number of these steps without a gradient for it; weights that always had one
    /// are not listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub optimizer_missed: BTreeMap<String, u64>,
    /// The number of batches read from each stream.
    pub streams: BTreeMap<String, u64>,
    /// The outer player's state, without tensors.
    #[serde(default)]
    pub defense: Value,
    /// The inner player's state, without tensors.
    #[serde(default)]
    pub perturber: Value,
}

const WEIGHTS: &str = "weights";
const FIRST: &str = "first_moments";
const SECOND: &str = "second_moments";
const SNAPSHOTS: &str = "snapshots";
const DEFENSE: &str = "defense";
const PERTURBER: &str = "perturber";

/// The groups of tensors that a [`Saved`] may have.
pub const GROUPS: [&str; 6] = [WEIGHTS, FIRST, SECOND, SNAPSHOTS, DEFENSE, PERTURBER];

impl Training<'_> {
    /// Everything that the next step depends on.
    ///
    /// # Errors
    /// When a player cannot give its state; when a weight is not finite after the last step.
    pub fn save(&self) -> Result<Saved> {
        let Self { defense, perturber, session, optimizer, .. } = self;
        optimizer.wait_and_check(&self.weights)?;
        let (outer, inner) = (defense.state()?, perturber.state()?);
        let copies = session.snapshots.iter().flat_map(|(copy, weights)| {
            weights.iter().map(move |(name, tensor)| (format!("{copy}/{name}"), tensor.clone()))
        });
        let groups = [
            (WEIGHTS, self.weights.clone()),
            (FIRST, optimizer.first.clone()),
            (SECOND, optimizer.second.clone()),
            (SNAPSHOTS, copies.collect()),
            (DEFENSE, outer.tensors),
            (PERTURBER, inner.tensors),
        ];
        let groups = groups.into_iter().filter(|(_, tensors)| !tensors.is_empty());
        Ok(Saved {
            tensors: groups.map(|(name, tensors)| (name.to_owned(), tensors)).collect(),
            position: Position {
                next: self.next,
                total: self.schedule.total,
                accumulation: session.accumulation,
                optimizer_steps: optimizer.steps,
                optimizer_missed: optimizer.missed.clone(),
                streams: session.streams.positions(),
                defense: outer.values,
                perturber: inner.values,
            },
        })
    }

    /// Continues from the point where [`Training::save`] was called, in a training of the same
    /// recipe.
    ///
    /// # Errors
    /// When the saved state belongs to another model, stage or method. Drop the training then.
    pub fn resume(&mut self, saved: Saved) -> Result<()> {
        let Saved { mut tensors, position } = saved;
        self.check_position(&position)?;
        let device = self.backbone.device();
        for group in tensors.values_mut() {
            *group = group.map(|tensor| Ok(tensor.to_device(device)?))?;
        }
        let mut take = |group: &str| tensors.remove(group).unwrap_or_default();
        let (weights, first, second) = (take(WEIGHTS), take(FIRST), take(SECOND));
        for (group, saved) in [(WEIGHTS, &weights), (FIRST, &first), (SECOND, &second)] {
            alike(group, saved, &self.weights)?;
        }
        self.session.snapshots = copies(take(SNAPSHOTS))?;
        for (copy, weights) in &self.session.snapshots {
            alike(&format!("snapshot `{copy}`"), weights, &self.weights)?;
        }
        self.defense.restore(State { tensors: take(DEFENSE), values: position.defense })?;
        self.filter()?;
        self.perturber.restore(State { tensors: take(PERTURBER), values: position.perturber })?;
        if let Some(group) = tensors.keys().next() {
            return Err(Error::State(format!(
                "it has tensors `{group}`, which this training does not have"
            )));
        }
        self.weights = weights.leaves()?;
        (self.optimizer.first, self.optimizer.second) = (first, second);
        self.optimizer.steps = position.optimizer_steps;
        self.optimizer.missed = position.optimizer_missed;
        self.session.streams.seek(&position.streams);
        self.next = position.next;
        Ok(())
    }

    /// Checks that a position is one of this training.
    fn check_position(&self, position: &Position) -> Result<()> {
        let (total, accumulation) = (self.schedule.total, self.session.accumulation);
        same("steps", position.total, total)?;
        same("micro-batches", position.accumulation as u64, accumulation as u64)?;
        if position.next > total || position.optimizer_steps != position.next {
            let Position { next, optimizer_steps: taken, .. } = position;
            let problem = format!("step {next} of {total} is next, after {taken} steps");
            return Err(Error::State(problem));
        }
        for (name, missed) in &position.optimizer_missed {
            let taken = position.optimizer_steps;
            if self.weights.get(name).is_none() || *missed > taken {
                let problem = format!("`{name}` is recorded as missing {missed} of {taken} steps");
                return Err(Error::State(problem));
            }
        }
        let here = self.session.streams.positions();
        if let Some(name) = position.streams.keys().find(|name| !here.contains_key(*name)) {
            return Err(Error::State(format!(
                "it has read a stream `{name}`, which this stage does not have"
            )));
        }
        Ok(())
    }
}

fn same(what: &str, saved: u64, here: u64) -> Result<()> {
    match saved == here {
        true => Ok(()),
        false => {
            Err(Error::State(format!("it was saved for {saved} {what}, but here there are {here}")))
        }
    }
}

/// Snapshots by name, from tensors called `snapshot/parameter`.
fn copies(tensors: Params) -> Result<BTreeMap<String, Params>> {
    let mut copies: BTreeMap<String, Params> = BTreeMap::new();
    for (name, tensor) in tensors {
        let Some((copy, parameter)) = name.split_once('/') else {
            return Err(Error::State(format!("`{name}` does not belong to a snapshot")));
        };
        copies.entry(copy.to_owned()).or_default().insert(parameter, tensor);
    }
    Ok(copies)
}

/// Checks names, shapes and types against those of the trained weights.
fn alike(group: &str, saved: &Params, weights: &Params) -> Result<()> {
    if saved.len() != weights.len() {
        let (saved, here) = (saved.len(), weights.len());
        return Err(Error::State(format!(
            "{group}: {saved} tensors were saved, but here there are {here}"
        )));
    }
    for (name, here) in weights.iter() {
        let missing = || Error::State(format!("{group}: `{name}` was not saved"));
        let saved = saved.get(name).ok_or_else(missing)?;
        if saved.dims() != here.dims() || saved.dtype() != here.dtype() {
            return Err(Error::State(format!(
                "{group}: `{name}` was saved as {:?} {:?}, here it is {:?} {:?}",
                saved.dtype(),
                saved.dims(),
                here.dtype(),
                here.dims()
            )));
        }
    }
    Ok(())
}
