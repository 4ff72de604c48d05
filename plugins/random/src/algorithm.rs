//! Noise in place of the worst case.

use vxf_core::numeric::norm;
use vxf_core::prelude::*;

use crate::config::{Form, GaussianConfig};

/// Keeps what has no length, as where all is padding, at zero; any other length is the same with it.
const GUARD: f64 = 1e-30;

/// The defence: the min-max step, whose inner player draws noise.
pub struct Random;

impl Defense for Random {}

/// The inner player that draws instead of asking for a gradient.
///
/// Noise lies on real positions only. The reference adds it to padding too, where no labelled
/// position can see it.
pub struct Gaussian {
    config: GaussianConfig,
}

impl Gaussian {
    /// An inner player with these settings.
    pub fn new(config: GaussianConfig) -> Self {
        Self { config }
    }
}

impl Perturber for Gaussian {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let GaussianConfig { rho, form, sites } = &self.config;
        let main = step.main();
        let batch = step.batch(&main)?;
        // Drawn for real positions, whatever the layout is.
        let shape = [batch.lengths.iter().sum(), step.architecture().width];
        let key = step.key("noise");

        let mut noise = Hidden::new();
        for site in sites.resolve(step.architecture().layers)? {
            let (dtype, device) = (step.dtype(), step.device());
            let drawn = key.child(&site.to_string()).normal(&shape, dtype, device)?;
            noise.insert(site, batch.laid_out(&drawn)?);
        }
        let length = norm(&noise.values().collect::<Vec<_>>())?;
        let (factor, scaled) = match form {
            Form::Reference => (Scalar::from(rho.sqrt()), length.times(rho.sqrt())?),
            Form::NormMatched => (length.plus(&GUARD.into())?.under(*rho)?, Scalar::from(*rho)),
        };
        for tensor in noise.values_mut() {
            *tensor = factor.scale(tensor)?;
        }
        step.record("perturbation_norm", scaled)?;
        Ok(Perturbation::Hidden(noise))
    }
}
