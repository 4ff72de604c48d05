//! The harmful vector and its subtraction.

use candle_core::{DType, Tensor};
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::prelude::*;

use crate::config::Thinned;

/// `W <- W + factor * (W_from - W_harmful)`, with W_harmful what some steps of AdamW on harmful samples make
/// of the reference model W_from.
///
/// Only weights called `.weight` are part of the vector: references have no others.
pub struct Subtraction {
    /// The model that the vector starts from.
    pub from: Reference,
    /// How much of it is subtracted.
    pub factor: f64,
    /// Share of the entries of a difference that are dropped at random.
    pub dropped: f64,
    /// Of which difference: this vector, or `W - W_from`.
    pub thinned: Thinned,
    /// Steps of the harmful training.
    pub steps: usize,
    /// Its learning rate.
    pub rate: f64,
}

impl Subtraction {
    /// The reference model as a set of trained weights; what references lack stays as in `weights`.
    fn start(&self, step: &Step<'_>, weights: &Params) -> Result<Params> {
        let reference = step.reference(self.from)?;
        let own = weights.iter().map(|(name, tensor)| {
            let start = match name.strip_suffix(".weight") {
                Some(module) => reference.weight(module)?.to_dtype(tensor.dtype())?,
                None => tensor.detach(),
            };
            Ok((name.to_owned(), start))
        });
        own.collect::<Result<Params>>()?.copy()
    }

    fn harmful(&self, step: &mut Step<'_>, start: &Params) -> Result<Params> {
        let mut trained = start.copy()?;
        let parameters = step.parameters().to_vec();
        let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, &parameters, &trained)?;
        for index in 0..self.steps {
            if index > 0 {
                step.redraw("harmful")?;
            }
            let (loss, gradients) = step.with_weights(&trained, |step| {
                step.on("harmful").role(Role::Evaluation).loss_and_gradients()
            })?;
            if index + 1 == self.steps {
                step.record("harmful_loss", loss)?;
            }
            optimizer.step(&mut trained, &gradients, 1.0, self.rate)?;
        }
        Ok(trained)
    }
}

/// `difference` without a share of its entries, chosen at random, and the others divided by the share that
/// is left (DARE).
fn thin(difference: &Tensor, dropped: f64, key: &Key) -> Result<Tensor> {
    let drawn = key.uniform(1.0, difference.dims(), DType::F32, difference.device())?;
    // Draws lie in [-1, 1), so that a share `dropped` of them is below this bound.
    let kept = drawn.ge(2.0 * dropped - 1.0)?.to_dtype(difference.dtype())?;
    Ok(((difference * kept)? / (1.0 - dropped))?)
}

impl Defense for Subtraction {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        if !weights.iter().any(|(name, _)| name.ends_with(".weight")) {
            let problem = "no weight of the model is trained here; train all weights";
            return Err(Error::Unsuitable(problem.to_owned()));
        }
        let start = self.start(step, &weights)?;
        let harmful = self.harmful(step, &start)?;
        let key = step.key("dropped");
        for (name, from) in start.iter().filter(|(name, _)| name.ends_with(".weight")) {
            let missing = || Error::ParameterMismatch { name: name.to_owned() };
            let trained = harmful.get(name).ok_or_else(missing)?;
            let mut back = (from - trained.detach())?;
            let mut tuned = weights.get(name).ok_or_else(missing)?.detach();
            if self.dropped > 0.0 {
                let key = key.child(name);
                match self.thinned {
                    Thinned::Safety => back = thin(&back, self.dropped, &key)?,
                    Thinned::Tuned => tuned = (from + thin(&(tuned - from)?, self.dropped, &key)?)?,
                }
            }
            weights.insert(name.to_owned(), (tuned + (back * self.factor)?)?);
        }
        Ok(weights)
    }
}
