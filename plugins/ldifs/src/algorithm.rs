//! The penalty on features.

use candle_core::Tensor;
use vxf_core::numeric::scalar;
use vxf_core::prelude::*;
use vxf_core::site::SiteKind;

use crate::config::LdifsConfig;

const ALIGNED: &str = "aligned";

/// `J = u(w) + rho / 2 sum_l ||m_l(w) - m_l(w_aligned)||^2`, with m_l the MLP output of layer l on the
/// user's batch, all positions and samples.
///
/// A layer whose term is `limit` or more is left out of the step, as in the code of the Vaccine line.
pub struct Ldifs {
    config: LdifsConfig,
}

impl Ldifs {
    /// LDIFS with these settings.
    pub fn new(config: LdifsConfig) -> Self {
        Self { config }
    }

    fn penalty(&self, now: &Hidden, aligned: &Hidden) -> Result<Tensor> {
        let LdifsConfig { rho, limit } = self.config;
        let mut sum: Option<Tensor> = None;
        for (site, features) in now {
            let term = ((features - &aligned[site])?.sqr()?.sum_all()? * (rho / 2.0))?;
            // A term that is not finite is left out too.
            let kept =
                if scalar(&term)? < limit { term } else { features.zeros_like()?.sum_all()? };
            sum = Some(match sum {
                Some(sum) => (sum + kept)?,
                None => kept,
            });
        }
        sum.ok_or_else(|| Error::Unsuitable("LDIFS reads no hidden embedding".into()))
    }
}

impl Defense for Ldifs {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let sites = SiteSelection::all(SiteKind::MlpOutput).resolve(step.architecture().layers)?;
        let weights = step.snapshot_of(ALIGNED)?.clone();
        let aligned = step
            .with_weights(&weights, |step| step.on_main().role(Role::Evaluation).hidden(&sites))?;
        let term = |now: &Hidden, _: &Lens<'_>| self.penalty(now, &aligned);
        let objective = Objective { hidden: Some((&sites, &term)), ..Objective::default() };
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }
}
