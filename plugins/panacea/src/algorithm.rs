//! The step of Panacea, and its change of the final weights.

use vxf_core::prelude::*;

use crate::config::PanaceaConfig;

/// Added to the norm before dividing by it, as in the authors' code.
const EPSILON: f64 = 1e-7;

/// `g = grad u(w) - lambda (grad h(w + eps) - grad h(w))` with `eps = rho grad h(w) / ||grad h(w)||`; the
/// last eps is added to the final weights.
pub struct Panacea {
    config: PanaceaConfig,
    /// The change of the last step.
    epsilon: Params,
}

impl Panacea {
    /// Panacea with these settings.
    pub fn new(config: PanaceaConfig) -> Self {
        Self { config, epsilon: Params::new() }
    }
}

impl Defense for Panacea {
    fn per_step(&self) -> bool {
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let PanaceaConfig { rho, lambda, limit, .. } = self.config;
        let user = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let (loss, before) = step.on("harmful").loss_and_gradients()?;
        let norm = before.pending_norm()?;
        step.require_finite("the norm of the harmful gradient", " on stream `harmful`", &norm)?;
        let factor = norm.add(&EPSILON.into())?.rdiv(rho)?;
        self.epsilon = before.map(|gradient| Ok(factor.scale(gradient)?))?;
        let raised = Perturbation::Weights(self.epsilon.clone());
        let (higher, after) = step.on("harmful").perturbed(&raised).loss_and_gradients()?;
        step.record("harmful_loss", loss)?;
        step.record("harmful_loss_raised", higher.clone())?;
        let gradients = user.add_scaled(&before, lambda)?;
        // A loss beyond the limit is clamped, so it has no gradient.
        match higher.value()? > limit {
            true => Ok(gradients),
            false => gradients.add_scaled(&after, -lambda),
        }
    }

    fn finish(&mut self, _step: &mut Step<'_>, weights: Params) -> Result<Params> {
        match self.epsilon.is_empty() {
            true => Ok(weights),
            false => weights.add_scaled(&self.epsilon, 1.0),
        }
    }

    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.epsilon.clone(), values: serde_json::Value::Null })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.epsilon = state.tensors;
        Ok(())
    }
}
