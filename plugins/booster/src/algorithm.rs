//! The gradient of Booster.

use vxf_core::prelude::*;

use crate::config::BoosterConfig;

/// Added to the norm before dividing by it, as in the authors' code.
const EPSILON: f64 = 1e-7;

/// `J = f(w) + lambda (h(w) - h(w - alpha grad h(w) / ||grad h(w)||))`, with the direction of the
/// simulated step taken as constant.
///
/// f is the loss on alignment data, at the inner player's perturbation if there is one; h is the loss on
/// harmful data.
pub struct Booster {
    config: BoosterConfig,
}

impl Booster {
    /// Booster with these settings.
    pub fn new(config: BoosterConfig) -> Self {
        Self { config }
    }
}

impl Defense for Booster {
    fn per_step(&self) -> bool {
        // The step is normalised: its length must not depend on micro-batches.
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let BoosterConfig { lambda, alpha, .. } = self.config;
        let aligned = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;

        let (loss, before) = step.on("harmful").loss_and_gradients()?;
        let norm = before.pending_norm()?;
        step.require_finite("the norm of the harmful gradient", " on stream `harmful`", &norm)?;
        let factor = norm.add(&EPSILON.into())?.rdiv(-alpha)?;
        let moved = before.map(|gradient| Ok(factor.scale(gradient)?))?;
        let moved = Perturbation::Weights(moved);
        let (lower, after) = step.on("harmful").perturbed(&moved).loss_and_gradients()?;

        step.record("harmful_loss", loss.clone())?;
        step.record("harmful_loss_fall", loss.add(&lower.mul(-1.0)?)?)?;
        aligned.add_scaled(&before, lambda)?.add_scaled(&after, -lambda)
    }
}
