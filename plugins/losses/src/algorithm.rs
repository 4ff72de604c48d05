//! The mean cross-entropy, and the two metrics computed from it.

use vxf_core::metric::{Better, Model, View};
use vxf_core::prelude::*;

use crate::config::Average;

/// A mean cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanLoss {
    /// The mean, in nats.
    pub nats: f64,
    /// The number of labelled tokens.
    pub tokens: usize,
    /// The number of samples.
    pub samples: usize,
}

/// The mean cross-entropy of `model` over `batches`, without dropout; `None` without labelled tokens.
///
/// Batches without a labelled token are left out; the reference gives NaN then.
///
/// # Errors
/// When a tensor operation fails.
pub fn mean_loss(
    model: Model<'_>,
    batches: &[Batch],
    average: Average,
) -> Result<Option<MeanLoss>> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let (mut tokens, mut samples) = (0, 0);
    for batch in batches {
        let (labelled, rows) = (batch.labelled(), batch.lengths.len());
        if labelled == 0 {
            continue;
        }
        let share = match average {
            Average::Token => labelled as f64,
            Average::Batch => rows as f64,
        };
        sum += share * model.loss(batch)?;
        weight += share;
        tokens += labelled;
        samples += rows;
    }
    Ok((tokens > 0).then(|| MeanLoss { nats: sum / weight, tokens, samples }))
}

/// The mean cross-entropy on the `alignment` samples.
#[derive(Clone, Copy, Debug)]
pub struct AlignmentLoss {
    /// How batch losses are averaged.
    pub average: Average,
}

impl Metric for AlignmentLoss {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let mean = of_samples(view, "alignment-loss", "alignment", self.average)?;
        let figure =
            Measurement::new("alignment_loss", mean.nats, "nats", Better::Lower, mean.samples)
                .with("average", vxf_core::config::json(&self.average))
                .with("tokens", mean.tokens);
        Ok(vec![figure])
    }
}

/// The perplexity on the `fluency` samples.
#[derive(Clone, Copy, Debug)]
pub struct Perplexity;

impl Metric for Perplexity {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let mean = of_samples(view, "perplexity", "fluency", Average::Token)?;
        let figure =
            Measurement::new("perplexity", mean.nats.exp(), "ppl", Better::Lower, mean.samples)
                .with("tokens", mean.tokens);
        Ok(vec![figure])
    }
}

/// The mean over the samples `name`, or an error that `metric` lacks them.
fn of_samples(view: &View<'_>, metric: &str, name: &str, average: Average) -> Result<MeanLoss> {
    let batches = view.batches(metric, name)?;
    mean_loss(view.model, &batches, average)?.ok_or_else(|| Error::MissingData {
        metric: metric.to_owned(),
        need: format!("`{name}` samples with an answer that survives truncation"),
    })
}

#[cfg(test)]
mod tests;
