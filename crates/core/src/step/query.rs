//! Queries on a stream: settings, and the verbs that run them.

use std::sync::Arc;

use vxf_tensor::{Key, Scalar};

use super::micro::of_one_micro_batch;
use super::{Role, Step};
use crate::backbone::Parameter;
use crate::batch::{Batch, Padding};
use crate::engine::{Evaluation, Objective, Outcome, Subset};
use crate::perturber::Perturbation;
use crate::site::{Hidden, Site};
use crate::{Error, Gradients, Params, Result};

/// A query on a stream: settings, ended by a verb.
///
/// It reads the present micro-batch unless it is [`Query::whole`]. A setting that a verb does not
/// support is an error.
#[must_use = "end the query with a verb such as `gradients`"]
pub struct Query<'s, 'a> {
    pub(super) step: &'s mut Step<'a>,
    pub(super) stream: String,
    perturbation: Perturbation,
    pub(super) objective: Option<Objective<'s>>,
    role: Role,
    whole: bool,
    rectangle: bool,
    subset: Option<Subset>,
    /// Wanted weights that the defence freezes: their gradient is zero and is not computed.
    frozen: Vec<String>,
    /// What is read in place of the stream's own batch.
    given: Option<Arc<Batch>>,
}

impl<'s, 'a> Query<'s, 'a> {
    pub(super) fn new(step: &'s mut Step<'a>, stream: &str) -> Self {
        let whole = step.micro.is_none();
        Self {
            step,
            stream: stream.to_owned(),
            perturbation: Perturbation::None,
            objective: None,
            role: Role::Outer,
            whole,
            rectangle: false,
            subset: None,
            frozen: Vec::new(),
            given: None,
        }
    }

    /// Runs at this perturbation.
    pub fn perturbed(mut self, perturbation: &Perturbation) -> Self {
        self.perturbation = perturbation.clone();
        self
    }

    /// Minimises this objective instead of the cross-entropy.
    pub fn minimising(mut self, objective: Objective<'s>) -> Self {
        self.objective = Some(objective);
        self
    }

    /// Sets the role, which decides the dropout masks.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Reads this batch in place of the stream's own, which is not advanced: samples that were
    /// [picked](Step::pick), or a batch that the method made. It is one pass, also in a whole step, and
    /// counts like a micro-batch of the main stream.
    pub fn reading(mut self, batch: &Arc<Batch>) -> Self {
        self.given = Some(batch.clone());
        self
    }

    /// Computes padding too: the layout is that of `batch.with_padding(Padding::Hidden)`. For formulas
    /// that read padding.
    pub fn rectangle(mut self) -> Self {
        self.rectangle = true;
        self
    }

    /// Runs over all micro-batches of the step, each weighted by its share of the stream's labelled
    /// tokens. This gives the loss and the gradient of the step's large batch.
    pub fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Differentiates with respect to these [trained weights](Step::parameters) alone.
    ///
    /// The others are missing from the gradient. The backward pass ends at the lowest of these;
    /// layers below are neither kept nor differentiated.
    pub fn of(mut self, wanted: &dyn Fn(&Parameter) -> bool) -> Self {
        let frozen = self.step.session.frozen.get();
        let freezes = |it: &Parameter| frozen.is_some_and(|frozen| frozen.contains(&it.name));
        let all = self.step.parameters();
        self.subset = Some(Subset::of(all, &|it| wanted(it) && !freezes(it)));
        let stays = all.iter().filter(|it| wanted(it) && freezes(it));
        self.frozen = stays.map(|it| it.name.clone()).collect();
        self
    }

    /// The gradient with respect to the weights.
    ///
    /// In the outer role and on the main stream, its loss is the step's `loss`.
    pub fn gradients(self) -> Result<Gradients> {
        let (query, loss, gradients) = self.differentiate()?;
        query.remember(&loss, false)?;
        Ok(gradients)
    }

    /// The mean loss, and the gradient with respect to the weights.
    ///
    /// The loop weights a defence's gradient of a micro-batch by the main stream's share of
    /// labelled tokens. Gradients of other streams are scaled here so that their weighted sum is
    /// the gradient of their own large batch.
    pub fn loss_and_gradients(self) -> Result<(Scalar, Gradients)> {
        let (query, loss, gradients) = self.differentiate()?;
        query.remember(&loss, true)?;
        Ok((loss, gradients))
    }

    /// The loss alone. Waits for the device.
    pub fn loss(mut self) -> Result<f64> {
        self.takes_no_subset("loss")?;
        let weights = self.moved_weights()?;
        let parts = match self.single() {
            Some(micro) => vec![(micro, 1.0)],
            None => self.step.shares(&self.stream)?,
        };
        let mut loss = 0.0;
        for (micro, share) in parts {
            loss += share * self.run(micro, &weights, &[], false)?.loss.value()?;
        }
        Ok(loss)
    }

    /// Gradients at sites, without gradients of the weights.
    ///
    /// The differentiated loss is this micro-batch's contribution to the step's loss: the mean over
    /// *its* labelled tokens times its share of the step's. Also returns the mean loss of the
    /// micro-batch.
    pub fn site_gradients(mut self, sites: &[Site]) -> Result<(Scalar, Hidden)> {
        self.takes_no_subset("site_gradients")?;
        let micro = self.one_micro_batch("site_gradients")?;
        let share = match self.given {
            Some(_) => self.step.share(&self.step.main())?,
            None => self.step.share(&self.stream)?,
        };
        let weights = self.moved_weights()?;
        let mut outcome = self.run(micro, &weights, sites, false)?;
        if share != 1.0 {
            for gradient in outcome.at_sites.values_mut() {
                *gradient = (&*gradient * share)?;
            }
        }
        Ok((outcome.loss, outcome.at_sites))
    }

    /// Rejects [`Query::of`] for a verb without a gradient of the weights.
    pub(super) fn takes_no_subset(&self, verb: &'static str) -> Result<()> {
        if self.subset.is_none() {
            return Ok(());
        }
        let problem = "does not differentiate the weights; leave out `of(..)`".to_owned();
        Err(Error::Query { verb, problem })
    }

    /// The micro-batch of this query; none for the whole step.
    fn single(&self) -> Option<usize> {
        match self.whole && self.given.is_none() && self.step.session.accumulation > 1 {
            true => None,
            false => Some(self.step.micro.unwrap_or(0)),
        }
    }

    pub(super) fn one_micro_batch(&self, verb: &'static str) -> Result<usize> {
        let several = self.step.session.accumulation;
        self.single().ok_or_else(|| of_one_micro_batch(verb, several))
    }

    /// The perturbed weights.
    pub(super) fn moved_weights(&self) -> Result<Params> {
        match &self.perturbation {
            Perturbation::Weights(change) => self.step.weights.add_scaled(change, 1.0),
            Perturbation::Hidden(_) if self.single().is_none() => {
                let problem = "does not support a perturbation of hidden embeddings, which belongs to one \
                           micro-batch; use it within `step.accumulate(|step| ..)`";
                Err(Error::Query { verb: "whole", problem: problem.to_owned() })
            }
            Perturbation::None | Perturbation::Hidden(_) => Ok(self.step.weights.clone()),
        }
    }

    /// The batch in the layout of this query.
    pub(super) fn batch(&mut self, micro: usize) -> Result<Arc<Batch>> {
        let batch = match &self.given {
            Some(batch) => batch.clone(),
            None => self.step.batch_of(&self.stream, micro)?,
        };
        Ok(match self.rectangle && batch.padding == Padding::LeftOut {
            true => Arc::new(batch.with_padding(Padding::Hidden)),
            false => batch,
        })
    }

    /// The perturbation at sites in the layout of this query.
    pub(super) fn hidden_perturbation(&mut self, micro: usize) -> Result<Option<Hidden>> {
        let Perturbation::Hidden(hidden) = &self.perturbation else { return Ok(None) };
        let hidden = hidden.clone();
        let batch = self.batch(micro)?;
        let (rows, real) = (batch.rows().count(), batch.lengths.iter().sum::<usize>());
        let fitted = hidden.into_iter().map(|(site, added)| {
            // It was made for the dense rows of the batch.
            let dense = rows != real && added.dims().first() == Some(&real);
            Ok((site, if dense { batch.laid_out(&added)? } else { added }))
        });
        fitted.collect::<Result<_>>().map(Some)
    }

    /// The dropout key of the next pass over a micro-batch.
    pub(super) fn dropout(&mut self, micro: usize) -> Result<Option<Key>> {
        let key = self.step.key_of("dropout", micro).child(&self.stream);
        // The first pass uses the key itself, the others its items.
        let item = |key: Key, number| if number == 0 { key } else { key.index(number) };
        Ok(match self.role {
            Role::Evaluation => None,
            Role::Outer => {
                let session = &mut self.step.session;
                let draw = session.peek(&self.stream, self.step.backbone.device())?;
                Some(item(key.child("outer"), draw.number))
            }
            Role::Probe => {
                let place = (self.stream.clone(), micro);
                let passes = self.step.session.probes.entry(place).or_default();
                *passes += 1;
                Some(item(key.child("probe"), *passes - 1))
            }
        })
    }

    /// Stores the loss of an outer gradient of the main stream.
    fn remember(self, loss: &Scalar, returned: bool) -> Result<()> {
        let main = self.step.main();
        if self.role == Role::Outer && self.stream == main {
            let value = loss.mul(self.step.share(&main)?)?;
            self.step.session.remember_loss(self.step.micro, value, returned);
        }
        Ok(())
    }

    fn differentiate(self) -> Result<(Self, Scalar, Gradients)> {
        let mut query = match self.subset.is_none() && self.step.frozen().next().is_some() {
            true => self.of(&|_| true),
            false => self,
        };
        let (loss, mut gradients) = query.differentiate_wanted()?;
        for name in &query.frozen {
            let missing = || Error::ParameterMismatch { name: name.clone() };
            let weight = query.step.weights.get(name).ok_or_else(missing)?;
            gradients.insert(name, weight.zeros_like()?.detach());
        }
        Ok((query, loss, gradients))
    }

    fn differentiate_wanted(&mut self) -> Result<(Scalar, Gradients)> {
        let nothing = self.subset.as_ref().is_some_and(Subset::is_empty);
        if nothing && self.frozen.is_empty() {
            let all = self.step.parameters().len();
            let problem = format!("selects none of the {all} trained weights");
            return Err(Error::Query { verb: "of", problem });
        }
        let weights = self.moved_weights()?;
        let Some(micro) = self.single() else {
            return self.differentiate_whole(&weights, !nothing);
        };
        let main = self.step.main();
        let balance = match self.stream == main || self.given.is_some() {
            true => 1.0,
            false => self.step.share(&self.stream)? / self.step.share(&main)?,
        };
        let outcome = self.run(micro, &weights, &[], !nothing)?;
        Ok((outcome.loss, outcome.gradients.scale(balance)?))
    }

    fn differentiate_whole(
        &mut self,
        weights: &Params,
        something: bool,
    ) -> Result<(Scalar, Gradients)> {
        let (mut loss, mut gradients) = (Scalar::default(), Gradients::new());
        for (micro, share) in self.step.shares(&self.stream)? {
            let outcome = self.run(micro, weights, &[], something)?;
            loss = loss.add(&outcome.loss.mul(share)?)?;
            gradients.accumulate_all(outcome.gradients.scale(share)?)?;
        }
        Ok((loss, gradients))
    }

    /// One differentiated pass over a micro-batch.
    fn run(
        &mut self,
        micro: usize,
        weights: &Params,
        sites: &[Site],
        weight_gradients: bool,
    ) -> Result<Outcome> {
        let batch = self.batch(micro)?;
        let perturbation = self.hidden_perturbation(micro)?;
        if batch.labelled() == 0 {
            return Err(Error::NothingLabelled { stream: self.stream.clone() });
        }
        let dropout = self.dropout(micro)?;
        let outcome = Evaluation {
            backbone: self.step.backbone,
            weights,
            batch: &batch,
            perturbation: perturbation.as_ref(),
            objective: self.objective.unwrap_or_default(),
            sites,
            weight_gradients,
            subset: self.subset.as_ref().filter(|_| weight_gradients),
            dropout: dropout.as_ref(),
            recompute: self.step.session.recompute,
        }
        .run()?;
        let place = format!(" on stream `{}`", self.stream);
        self.step.require_finite("the loss", &place, &outcome.loss)?;
        Ok(outcome)
    }
}
