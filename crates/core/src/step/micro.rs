//! The micro-batches of a step: their batches, their shares of the labels, and gradients over all
//! of them.

use std::sync::Arc;

use super::Step;
use crate::batch::Batch;
use crate::{Error, Gradients, Result};

impl Step<'_> {
    /// The number of micro-batches in the step.
    pub fn micro_batches(&self) -> usize {
        self.session.accumulation
    }

    /// This micro-batch of `stream`; always the same one within a step.
    ///
    /// # Errors
    /// When there is no such stream; when this is a whole step of several micro-batches.
    pub fn batch(&mut self, stream: &str) -> Result<Arc<Batch>> {
        let micro = self.one_micro_batch("batch")?;
        self.batch_of(stream, micro)
    }

    pub(super) fn batch_of(&mut self, stream: &str, micro: usize) -> Result<Arc<Batch>> {
        Ok(self.session.read(stream, self.backbone.device())?.batches[micro].clone())
    }

    /// The samples of `stream` at these indices, as one batch for [`reading`](super::Query::reading). This
    /// does not advance the stream.
    ///
    /// # Errors
    /// When there is no such stream; when it has no sample of an index.
    pub fn pick(&self, stream: &str, samples: &[usize]) -> Result<Arc<Batch>> {
        let stream = self.session.streams.get(stream)?;
        Ok(Arc::new(stream.pick(samples, self.backbone.device())?))
    }

    /// Draws the next batch of `stream` within this step, for simulated inner runs.
    ///
    /// With several micro-batches, each gets its next one.
    pub fn redraw(&mut self, stream: &str) -> Result<()> {
        self.session.redraw(stream, self.backbone.device())
    }

    /// The share of the step's labelled tokens of `stream` in this micro-batch; 1 for the whole
    /// step.
    ///
    /// Micro-batches in which the main stream has no label are skipped, together with the other
    /// streams' batches. This does not advance the stream.
    pub fn share(&mut self, stream: &str) -> Result<f64> {
        let Some(micro) = self.micro.filter(|_| self.session.accumulation > 1) else {
            return Ok(1.0);
        };
        let main = self.main();
        let device = self.backbone.device();
        let counted: Vec<_> = self.session.peek(&main, device)?.labelled().collect();
        let own: Vec<_> = self.session.peek(stream, device)?.labelled().collect();
        let all: usize = own.iter().zip(counted).filter(|(_, main)| *main > 0).map(|it| it.0).sum();
        match all {
            0 => Err(Error::NothingLabelled { stream: stream.to_owned() }),
            all => Ok(own[micro] as f64 / all as f64),
        }
    }

    /// The micro-batches of `stream` that have labels, each with its share of them.
    pub(super) fn shares(&mut self, stream: &str) -> Result<Vec<(usize, f64)>> {
        let labelled: Vec<_> =
            self.session.peek(stream, self.backbone.device())?.labelled().collect();
        let all: usize = labelled.iter().sum();
        let parts = labelled.into_iter().enumerate().filter(|(_, own)| *own > 0);
        let parts: Vec<_> = parts.map(|(micro, own)| (micro, own as f64 / all as f64)).collect();
        match parts.is_empty() {
            true => Err(Error::NothingLabelled { stream: stream.to_owned() }),
            false => Ok(parts),
        }
    }

    /// The micro-batch of a verb that works on one.
    pub(super) fn one_micro_batch(&self, verb: &'static str) -> Result<usize> {
        match (self.micro, self.session.accumulation) {
            (Some(micro), _) => Ok(micro),
            (None, 1) => Ok(0),
            (None, several) => Err(of_one_micro_batch(verb, several)),
        }
    }

    /// Runs `f` on each micro-batch of the step and sums the gradients, each weighted by the
    /// micro-batch's share of the main stream's labelled tokens.
    ///
    /// The loop does this for every defence that is not [`per_step`](crate::Defense::per_step); one
    /// that is can call it where it needs single micro-batches, for example for a perturbation of
    /// hidden embeddings.
    pub fn accumulate(
        &mut self,
        mut f: impl FnMut(&mut Self) -> Result<Gradients>,
    ) -> Result<Gradients> {
        let (main, before) = (self.main(), self.micro);
        let mut part = |step: &mut Self, micro| {
            step.micro = Some(micro);
            match step.share(&main)? {
                0.0 => Ok(Gradients::new()),
                share => f(step)?.scale(share),
            }
        };
        let mut sum = Gradients::new();
        for micro in 0..self.session.accumulation {
            let part = part(self, micro);
            self.micro = before;
            sum.accumulate_all(part?)?;
        }
        Ok(sum)
    }
}

/// The error of a `verb` that does not support a whole step of several micro-batches.
pub(super) fn of_one_micro_batch(verb: &'static str, micro_batches: usize) -> Error {
    let problem = format!(
        "works on one micro-batch, and this step has {micro_batches}; use it within \
         `step.accumulate(|step| ..)`"
    );
    Error::Query { verb, problem }
}
