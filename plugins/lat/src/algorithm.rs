//! The inner player.

use vxf_core::numeric::norm;
use vxf_core::prelude::*;

use crate::config::ProjectedConfig;

/// Added to a norm before dividing by it.
const EPSILON: f64 = 1e-7;

/// The defence: the min-max step.
pub struct Lat;

impl Defense for Lat {}

/// `eps <- P(eps + step rho g / ||g||)`, `steps` times from zero, where g is the gradient of the loss at the
/// sites and P scales to norm `rho` what is longer.
///
/// One step of length 1 is Vaccine's perturbation.
pub struct Projected {
    config: ProjectedConfig,
}

impl Projected {
    /// A perturber with these settings.
    pub fn new(config: ProjectedConfig) -> Self {
        Self { config }
    }
}

impl Perturber for Projected {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let ProjectedConfig { rho, steps, step_size, sites } = &self.config;
        let sites = sites.resolve(step.architecture().layers)?;
        let mut perturbation = Perturbation::None;
        for inner in 0..*steps {
            let query = step.on_main().role(Role::Probe).perturbed(&perturbation);
            let (loss, mut moved) = query.site_gradients(&sites)?;
            if inner == 0 {
                step.record("loss_clean", loss)?;
            }
            let length = norm(&moved.values().collect::<Vec<_>>())?;
            let place = format!(" on stream `{}`", step.main());
            step.require_finite("the norm of the loss gradient at all sites", &place, &length)?;
            let factor = length.add(&EPSILON.into())?.rdiv(step_size * rho)?;
            for (site, tensor) in &mut moved {
                *tensor = factor.scale(tensor)?;
                if let Perturbation::Hidden(before) = &perturbation {
                    *tensor = (&before[site] + &*tensor)?;
                }
            }
            let length = norm(&moved.values().collect::<Vec<_>>())?.value()?;
            if length > *rho {
                for tensor in moved.values_mut() {
                    *tensor = (&*tensor * (rho / length))?;
                }
            }
            perturbation = Perturbation::Hidden(moved);
        }
        Ok(perturbation)
    }
}
