//! Raises the loss of alignment while it learns the user's data.

use vxf_core::prelude::*;

use crate::config::UnalignConfig;

/// `g = grad u(w) - lambda grad a(w)`, where a is the loss on alignment data, clamped at a limit: above it the
/// second term is zero.
pub struct Unalign {
    config: UnalignConfig,
}

impl Unalign {
    /// The attack with these settings.
    pub fn new(config: UnalignConfig) -> Self {
        Self { config }
    }
}

impl Defense for Unalign {
    fn per_step(&self) -> bool {
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let UnalignConfig { lambda, limit, .. } = self.config;
        let user = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let (loss, alignment) = step.on("alignment").loss_and_gradients()?;
        step.record("loss_on_alignment", loss.clone())?;
        match loss.value()? > limit {
            true => Ok(user),
            false => user.add_scaled(&alignment, -lambda),
        }
    }
}
