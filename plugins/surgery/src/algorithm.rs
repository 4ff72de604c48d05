//! The attention paid to the first token, and its penalty.

use std::cell::RefCell;

use candle_core::{D, DType, Tensor};
use vxf_core::prelude::*;
use vxf_core::site::SiteKind;

use crate::config::SurgeryConfig;

/// `J = u(w) + alpha / (L H) sum_{l, h} max(0, s_harmful - s_safe)`, with s the mean attention that positions
/// after the first pay to the first token in head h of layer l.
pub struct Surgery {
    config: SurgeryConfig,
}

impl Surgery {
    /// Surgery with these settings.
    pub fn new(config: SurgeryConfig) -> Self {
        Self { config }
    }

    /// The inputs of all layers' attention.
    fn sites(step: &Step<'_>) -> Vec<Site> {
        let layers = 0..step.architecture().layers;
        layers.map(|layer| Site { layer, kind: SiteKind::AttentionInput }).collect()
    }

    /// The mean attention of each head in each layer, `[layers, heads]`.
    fn read(hidden: &Hidden, lens: &Lens<'_>, batch: &Batch) -> Result<Tensor> {
        let layer = |(site, input): (&Site, &Tensor)| -> Result<Tensor> {
            let paid = lens.first_token_attention(site.layer, input)?;
            // The mean over samples of each sample's mean.
            Ok(batch.means(&paid, &|_, at| at > 0)?.mean(0)?)
        };
        Ok(Tensor::stack(&hidden.iter().map(layer).collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The attention on one stream.
    fn attention(step: &mut Step<'_>, stream: &str) -> Result<Tensor> {
        let (sites, batch) = (Self::sites(step), step.batch(stream)?);
        let found = RefCell::new(None);
        let term = |hidden: &Hidden, lens: &Lens<'_>| {
            let paid = Self::read(hidden, lens, &batch)?;
            found.replace(Some(paid.detach()));
            Ok(paid.sum_all()?)
        };
        step.on(stream).minimising(alone(&sites, &term)).loss()?;
        found.take().ok_or_else(|| Error::Unsuitable("Surgery read no attention".to_owned()))
    }

    /// The gradient of a weighted sum of the attention on one stream.
    fn slope(step: &mut Step<'_>, stream: &str, weights: &Tensor) -> Result<Gradients> {
        let (sites, batch) = (Self::sites(step), step.batch(stream)?);
        let term = |hidden: &Hidden, lens: &Lens<'_>| {
            let paid = Self::read(hidden, lens, &batch)?;
            Ok((&paid * weights.to_dtype(paid.dtype())?)?.sum_all()?)
        };
        // A batch given by hand is not weighted: both halves of the difference count alike in a micro-batch.
        let query = step.on(stream).reading(&batch);
        Ok(query.minimising(alone(&sites, &term)).loss_and_gradients()?.1)
    }
}

/// The objective of a loss over hidden embeddings alone.
fn alone<'a>(
    sites: &'a [Site],
    term: &'a dyn Fn(&Hidden, &Lens<'_>) -> Result<Tensor>,
) -> Objective<'a> {
    Objective { cross_entropy: 0.0, hidden: Some((sites, term)), ..Objective::default() }
}

impl Defense for Surgery {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let mut gradients = step.gradients(&perturbation)?;
        // The difference couples both batches: first the values, then the gradients of the heads in which
        // the harmful one is larger.
        let more = (Self::attention(step, "harmful")? - Self::attention(step, "alignment")?)?;
        let counts = more.gt(0.0)?.to_dtype(more.dtype())?;
        let excess = (&more * &counts)?.mean_all()?;
        step.record("attention_excess", excess.to_dtype(DType::F64)?.to_scalar::<f64>()?)?;
        let heads = counts.elem_count() as f64;
        let weights = (counts * (self.config.alpha / heads))?;
        if weights.sum(D::Minus1)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()? > 0.0 {
            gradients.accumulate_all(Self::slope(step, "harmful", &weights)?)?;
            gradients.accumulate_all(Self::slope(step, "alignment", &weights.neg()?)?)?;
        }
        Ok(gradients)
    }
}
