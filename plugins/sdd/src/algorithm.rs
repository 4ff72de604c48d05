//! Pairs of harmful prompts and harmless answers.

use std::sync::Arc;

use rand::seq::index;
use vxf_core::prelude::*;

/// `J = CE(y' | x)`, x a harmful prompt and y' the answer to a harmless one, drawn anew in each step.
pub struct Sdd;

impl Defense for Sdd {
    fn gradients(&mut self, _inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let harmful = step.batch("harmful")?;
        let (all, count) = (step.samples_of("benign")?, harmful.lengths.len());
        let mut rng = step.key("answers").rng();
        let mut drawn = index::sample(&mut rng, all, count.min(all)).into_vec();
        // With fewer answers than prompts, answers come twice.
        drawn = drawn.iter().cycle().take(count).copied().collect();
        let answers = step.pick("benign", &drawn)?;
        let longest = step.architecture().positions;
        let pairs = Arc::new(harmful.with_answers_of(&answers, longest)?);
        let (loss, gradients) = step.on("harmful").reading(&pairs).loss_and_gradients()?;
        step.record("loss", loss)?;
        Ok(gradients)
    }
}
