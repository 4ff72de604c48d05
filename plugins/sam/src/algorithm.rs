//! The defence `sam` and its perturber.

use vxf_core::prelude::*;

/// Keeps the division defined at a gradient of zero; the authors' code has nothing in its place.
const EPSILON: f64 = 1e-12;

/// The min-max step, once per optimiser step: the norm is that of the large batch's gradient.
pub struct Sam;

impl Defense for Sam {
    fn per_step(&self) -> bool {
        true
    }
}

/// The perturber: `rho g / ||g||` on all trained weights.
pub struct Ascent {
    rho: f64,
}

impl Ascent {
    /// A perturber of this radius.
    pub fn new(rho: f64) -> Self {
        Self { rho }
    }
}

impl Perturber for Ascent {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let (loss, gradients) = step.on_main().role(Role::Probe).loss_and_gradients()?;
        step.record("loss_clean", loss)?;
        let norm = gradients.pending_norm()?;
        step.require_finite("the norm of the loss gradient", "", &norm)?;
        let factor = norm.add(&EPSILON.into())?.rdiv(self.rho)?;
        Ok(Perturbation::Weights(gradients.map(|gradient| Ok(factor.scale(gradient)?))?))
    }
}
