//! The distance of the anchors' hidden states.

use std::cell::RefCell;

use candle_core::{D, Tensor};
use vxf_core::prelude::*;

use crate::config::SbrConfig;

/// The stream of the anchors.
pub(crate) const ANCHORS: &str = "anchors";
/// The name of the anchors' first states in what is saved.
const STATES: &str = "states";

/// `J = u(w) + alpha mean((h(w) - h(w_0))^2)`, with h the model's last hidden state, after the last norm, at
/// the last token of each anchor's prompt.
pub struct Sbr {
    config: SbrConfig,
    /// The states before training, `[anchors, width]`, by the anchors' index in their set.
    first: Option<Tensor>,
}

impl Sbr {
    /// SBR with these settings.
    pub fn new(config: SbrConfig) -> Self {
        Self { config, first: None }
    }
}

/// The last hidden states at the last prompt token of each sample, `[samples, width]`.
fn states(hidden: &Hidden, lens: &Lens<'_>, site: Site, batch: &Batch) -> Result<Tensor> {
    let (rows, targets) = (batch.rows(), batch.row_targets());
    let last = |range: std::ops::Range<usize>| {
        // The first labelled position is the one that predicts the answer's first token.
        let end = range.end.saturating_sub(1);
        range.clone().find(|row| targets[*row] >= 0).unwrap_or(end) as u32
    };
    let last: Vec<u32> = rows.ranges().map(last).collect();
    let hidden = &hidden[&site];
    lens.normed(&hidden.index_select(&Tensor::new(last, hidden.device())?, 0)?)
}

/// The objective of a loss over the last layer's output alone.
fn of_last<'a>(
    sites: &'a [Site],
    term: &'a dyn Fn(&Hidden, &Lens<'_>) -> Result<Tensor>,
) -> Objective<'a> {
    Objective { cross_entropy: 0.0, hidden: Some((sites, term)), ..Objective::default() }
}

impl Defense for Sbr {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        let batch = step.batch(ANCHORS)?;
        let site = Site::block_output(step.architecture().layers - 1);
        let found = RefCell::new(None);
        let term = |hidden: &Hidden, lens: &Lens<'_>| {
            let states = states(hidden, lens, site, &batch)?;
            found.replace(Some(states.detach()));
            Ok(states.sqr()?.sum_all()?)
        };
        step.on(ANCHORS).role(Role::Evaluation).minimising(of_last(&[site], &term)).loss()?;
        let Some(states) = found.take() else {
            return Err(Error::Unsuitable("SBR read no hidden state of its anchors".to_owned()));
        };
        // In the order of the set: later batches may have another one.
        let mut order: Vec<u32> = (0..batch.samples.len() as u32).collect();
        order.sort_by_key(|&at| batch.samples[at as usize]);
        let order = Tensor::new(order, states.device())?;
        self.first = Some(states.index_select(&order, 0)?);
        Ok(())
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let mut gradients = step.gradients(&perturbation)?;
        let Some(first) = &self.first else {
            return Err(Error::State("SBR has no first states of its anchors".to_owned()));
        };
        let batch = step.batch(ANCHORS)?;
        let samples: Vec<u32> = batch.samples.iter().map(|sample| *sample as u32).collect();
        let first = first.index_select(&Tensor::new(samples, first.device())?, 0)?;
        let site = Site::block_output(step.architecture().layers - 1);
        let sites = [site];
        let term = |hidden: &Hidden, lens: &Lens<'_>| {
            let away = (states(hidden, lens, site, &batch)? - &first)?;
            Ok((away.sqr()?.mean(D::Minus1)?.mean_all()? * self.config.alpha)?)
        };
        let query = step.on(ANCHORS).minimising(of_last(&sites, &term));
        let (distance, anchored) = query.loss_and_gradients()?;
        step.record("anchor_distance", distance)?;
        // The output projection is read by the user's loss alone.
        gradients.accumulate_all(anchored)?;
        Ok(gradients)
    }

    fn state(&self) -> Result<State> {
        let tensors = self.first.iter().map(|first| (STATES.to_owned(), first.clone()));
        Ok(State { tensors: tensors.collect(), ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.first = state.tensors.get(STATES).cloned();
        Ok(())
    }
}
