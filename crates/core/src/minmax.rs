//! The loop: batch, gradients, clip, optimise, observe.
//!
//! A method differs in [`Defense::gradients`]. Its default is the min-max step of Vaccine (Huang,
//! Hu, Liu 2024): the inner player finds the perturbation that raises the loss most within its
//! radius, the outer one descends along the gradient at that perturbation.

use std::collections::BTreeMap;

use crate::backbone::Backbone;
use crate::defense::Defense;
use crate::finite::FiniteCheck;
use crate::optimizer::{AdamW, clip_factor};
use crate::perturber::Perturber;
use crate::schedule::Schedule;
use crate::step::{LOSS, Session, Step, whole_set};
use crate::{Error, Params, Result};

/// What happened in one optimiser step.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Zero-based step.
    pub step: u64,
    /// Learning rate used.
    pub rate: f64,
    /// L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Figures of the step: the minimised `loss`, and what defence and perturber recorded.
    pub figures: BTreeMap<String, f64>,
}

impl Observation {
    /// The loss that was minimised.
    ///
    /// # Errors
    /// When the step has none; the error says what the defence must do.
    pub fn loss(&self) -> Result<f64> {
        self.figures.get(LOSS).copied().ok_or(Error::NoLoss { step: self.step })
    }
}

/// The results of [`Defense::finish`].
#[derive(Clone, Debug)]
pub struct Finished {
    /// The stage's final weights.
    pub weights: Params,
    /// Figures recorded by the defence.
    pub figures: BTreeMap<String, f64>,
}

/// Whether to continue training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Take the next step.
    Continue,
    /// Stop after this one.
    Stop,
}

/// One stage of training, between two steps.
pub struct Training<'a> {
    /// The model.
    pub backbone: &'a dyn Backbone,
    /// Its trainable weights, updated in place.
    pub weights: Params,
    /// The outer player.
    pub defense: Box<dyn Defense>,
    /// The inner player.
    pub perturber: Box<dyn Perturber>,
    /// Streams, snapshots, randomness.
    pub session: Session,
    /// The optimiser with its state.
    pub optimizer: AdamW,
    /// The learning rates.
    pub schedule: Schedule,
    /// The gradient norm to clip at.
    pub max_gradient_norm: Option<f64>,
    /// The next step to take.
    pub next: u64,
}

impl Training<'_> {
    /// Lets the defence prepare, then takes all remaining steps.
    ///
    /// # Errors
    /// When a number is not finite, naming the step; when a plugin or `observe` fails.
    pub fn run<E: From<Error>>(
        &mut self,
        mut observe: impl FnMut(&Self, &Observation) -> Result<Flow, E>,
    ) -> Result<(), E> {
        if self.next == 0 {
            self.prepare()?;
        }
        while self.next < self.schedule.total {
            let observation = self.step()?;
            if observe(self, &observation)? == Flow::Stop {
                break;
            }
        }
        Ok(self.optimizer.wait_and_check(&self.weights)?)
    }

    /// Lets the defence read model and streams before the first step, a batch at a time.
    pub fn prepare(&mut self) -> Result<()> {
        self.aside(|defense, step| defense.prepare(step)).map(drop)?;
        self.filter()
    }

    /// The number of samples of the main stream, without those that the defence does not keep.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn samples(&self) -> Result<usize> {
        Ok(self.session.streams.get(&self.session.main)?.kept().len())
    }

    /// Leaves out the samples that the defence does not keep.
    pub(crate) fn filter(&mut self) -> Result<()> {
        match self.defense.keeps() {
            Some(kept) => self.session.streams.keep(&self.session.main, &kept),
            None => Ok(()),
        }
    }

    /// Lets the defence edit the trained weights after the last step, a batch at a time.
    ///
    /// # Errors
    /// When the defence does not return a complete set of finite weights.
    pub fn finish(&mut self) -> Result<Finished> {
        let trained = self.weights.detach();
        let (weights, figures) = self.aside(|defense, step| defense.finish(step, trained))?;
        whole_set("finish", &weights, &self.weights)?;
        FiniteCheck::new(self.next).search(&weights)?;
        Ok(Finished { weights, figures })
    }

    /// Lets the defence act between steps, with one micro-batch.
    fn aside<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Defense, &mut Step<'_>) -> Result<T>,
    ) -> Result<(T, BTreeMap<String, f64>)> {
        let Self { backbone, weights, defense, session, schedule, next, .. } = self;
        let accumulation = std::mem::replace(&mut session.accumulation, 1);
        let at = (*next, schedule.total);
        let mut step = Step::whole(*backbone, weights, session, at);
        step.freeze(|parameter| defense.freezes(parameter));
        let done = act(&mut **defense, &mut step);
        session.accumulation = accumulation;
        let figures = session.end_step(*next);
        Ok((done?, figures?))
    }

    /// One optimiser step.
    ///
    /// A step never reads batches of two epochs of the main stream: if the number of micro-batches
    /// does not divide an epoch, its last step has fewer, as in the Trainer of transformers.
    pub fn step(&mut self) -> Result<Observation> {
        let Session { streams, main, accumulation, .. } = &mut self.session;
        let most = *accumulation;
        *accumulation = most.min(streams.left_in_epoch(main)?);
        let done = self.whole_step();
        self.session.accumulation = most;
        done
    }

    fn whole_step(&mut self) -> Result<Observation> {
        let Self { backbone, weights, defense, perturber, session, optimizer, .. } = self;
        let at = (self.next, self.schedule.total);
        let main = session.main.clone();

        let mut step = Step::whole(*backbone, weights, session, at);
        step.freeze(|parameter| defense.freezes(parameter));
        let gradients = match defense.per_step() {
            true => defense.gradients(&mut **perturber, &mut step)?,
            false => step.accumulate(|step| defense.gradients(&mut **perturber, step))?,
        };
        let gradients = gradients.without(step.frozen());

        // Everything that is still on a GPU is fetched here at once: figures, numbers that must be
        // finite, and the norm to clip by.
        let norm = gradients.pending_norm()?;
        let numbers = session.synchronize(self.next, &[&optimizer.non_finite_flag(), &norm])?;
        optimizer.check_flag(numbers[0], weights)?;
        let gradient_norm = finite(numbers[1], self.next, &main)?;

        let rate = self.schedule.rate(self.next);
        let factor = clip_factor(gradient_norm, self.max_gradient_norm);
        let moved = optimizer.step(weights, &gradients, factor, rate);
        moved.map_err(|error| error.on_stream(&main))?;
        defense.after_step(&mut Step::whole(*backbone, weights, session, at))?;

        let figures = session.end_step(self.next)?;
        self.next += 1;
        Ok(Observation { step: at.0, rate, gradient_norm, figures })
    }
}

fn finite(norm: f64, step: u64, stream: &str) -> Result<f64> {
    if norm.is_finite() {
        return Ok(norm);
    }
    let quantity = "the gradient norm".to_owned();
    Err(Error::NotFinite { quantity, value: norm, step, place: String::new() }.on_stream(stream))
}
