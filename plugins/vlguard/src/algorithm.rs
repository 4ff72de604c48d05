//! The weighted sum of two losses.

use vxf_core::prelude::*;

/// `J = user * u(w) + safe * f(w)`, where f is the loss of alignment samples.
pub struct Beside {
    user: f64,
    safe: f64,
}

impl Beside {
    /// With these weights of the user's loss and the safe one.
    pub fn new(user: f64, safe: f64) -> Self {
        Self { user, safe }
    }
}

impl Defense for Beside {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let user = step.on_main().perturbed(&perturbation);
        let (user, gradients) = user.loss_and_gradients()?;
        let (safe, guide) = step.on("alignment").loss_and_gradients()?;
        step.record("loss", user.mul(self.user)?.add(&safe.mul(self.safe)?)?)?;
        step.record("safe_loss", safe)?;
        gradients.scale(self.user)?.add_scaled(&guide, self.safe)
    }
}
