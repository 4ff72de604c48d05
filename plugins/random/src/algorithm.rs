//! Random perturbation.

use vxf_core::numeric::norm;
use vxf_core::prelude::*;

use crate::config::{Form, GaussianConfig};

/// Avoids a division by zero if all positions are padding; too small to change any other norm.
const EPSILON: f64 = 1e-30;

/// The defence: the min-max step with a random perturbation.
pub struct Random;

impl Defense for Random {}

/// The perturber: Gaussian noise at hidden embeddings.
///
/// Only real positions get noise. The reference adds it to padding too, but no labelled position
/// attends to padding.
pub struct Gaussian {
    config: GaussianConfig,
}

impl Gaussian {
    /// A perturber with these settings.
    pub fn new(config: GaussianConfig) -> Self {
        Self { config }
    }
}

impl Perturber for Gaussian {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let GaussianConfig { rho, form, sites } = &self.config;
        let main = step.main();
        let batch = step.batch(&main)?;
        // Drawn for real positions, in every layout.
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
            Form::Reference => (Scalar::from(rho.sqrt()), length.mul(rho.sqrt())?),
            Form::NormMatched => (length.add(&EPSILON.into())?.rdiv(*rho)?, Scalar::from(*rho)),
        };
        for tensor in noise.values_mut() {
            *tensor = factor.scale(tensor)?;
        }
        step.record("perturbation_norm", scaled)?;
        Ok(Perturbation::Hidden(noise))
    }
}
