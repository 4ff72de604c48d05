//! The projected gradient.

use vxf_core::prelude::*;

use crate::config::SafeGradConfig;

/// `g = g_u' + rho g_f`, where `g_u' = g_u - (g_u . g_f) / ||g_f||^2 g_f` if the product is negative, and
/// `g_u` otherwise. g_u is the gradient of the user's loss, g_f that of the alignment loss.
pub struct SafeGrad {
    config: SafeGradConfig,
}

impl SafeGrad {
    /// SafeGrad with these settings.
    pub fn new(config: SafeGradConfig) -> Self {
        Self { config }
    }
}

impl Defense for SafeGrad {
    fn per_step(&self) -> bool {
        // A projection is not linear in the batch.
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let user = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let (loss, aligned) = step.on("alignment").loss_and_gradients()?;
        step.record("alignment_loss", loss)?;
        let (product, square) = (user.dot(&aligned)?, aligned.dot(&aligned)?);
        step.record("conflict", f64::from(u8::from(product < 0.0)))?;
        let projected = match product < 0.0 && square > 0.0 {
            true => user.add_scaled(&aligned, -product / square)?,
            false => user,
        };
        projected.add_scaled(&aligned, self.config.rho)
    }
}
