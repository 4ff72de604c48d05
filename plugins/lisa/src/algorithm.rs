//! The two states of Lisa.

use vxf_core::prelude::*;

use crate::config::LisaConfig;

/// In each state the loss of its own data plus `rho / 2 ||w - w_other||^2`, where `w_other` is where the
/// other state ended last.
///
/// The state is a function of the step, so a resumed run needs no more than the snapshots.
pub struct Lisa {
    config: LisaConfig,
}

/// The weights at the end of the last steps on alignment data.
const ALIGNED: &str = "after alignment";
/// The weights at the end of the last steps on the user's data.
const TUNED: &str = "after user";

impl Lisa {
    /// Lisa with these settings.
    pub fn new(config: LisaConfig) -> Self {
        Self { config }
    }

    /// Whether `step` is one on alignment data.
    fn aligns(&self, step: u64) -> bool {
        let LisaConfig { alignment_steps, user_steps, .. } = self.config;
        step % (alignment_steps + user_steps) < alignment_steps
    }
}

impl Defense for Lisa {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)?;
        step.snapshot(TUNED)
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let aligns = self.aligns(step.index());
        let (gradients, other) = match aligns {
            true => {
                let (loss, gradients) = step.on("alignment").loss_and_gradients()?;
                step.record("loss", loss)?;
                (gradients, TUNED)
            }
            false => {
                let perturbation = inner.perturb(step)?;
                (step.gradients(&perturbation)?, ALIGNED)
            }
        };
        let LisaConfig { rho, warmup, .. } = self.config;
        if rho == 0.0 || step.index() as f64 <= warmup * step.total() as f64 {
            return Ok(gradients);
        }
        let moved = step.weights().sub(step.snapshot_of(other)?)?;
        step.record("loss", rho / 2.0 * moved.norm()?.powi(2))?;
        gradients.add_scaled(&moved, rho)
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        let now = self.aligns(step.index());
        if now != self.aligns(step.index() + 1) {
            step.snapshot(if now { ALIGNED } else { TUNED })?;
        }
        Ok(())
    }
}
