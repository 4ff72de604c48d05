//! The defence `vaccine` and its perturber.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use vxf_core::numeric::squares;
use vxf_core::prelude::*;

use crate::config::{Between, GradientPerturberConfig, Scope};
use crate::reuse;

/// Added to a norm before dividing by it, as in the reference.
const EPSILON: f64 = 1e-7;

/// The defence: the min-max step on every `tau`-th step.
///
/// Huang, Hu, Liu 2024, Algorithm 1. `tau` is the accelerated form of their appendix: the steps in
/// between have no perturbation. [`Between::Reuse`], which reuses the last perturbation, is ours.
pub struct Vaccine {
    tau: u64,
    between: Between,
    /// The last perturbation, kept for [`Between::Reuse`].
    last: Perturbation,
}

impl Vaccine {
    /// Vaccine with a new perturbation every `tau` steps.
    pub fn new(tau: u64, between: Between) -> Self {
        Self { tau, between, last: Perturbation::None }
    }
}

impl Defense for Vaccine {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let fresh = step.index() % self.tau == 0;
        let perturbation = match self.between {
            _ if fresh => inner.perturb(step)?,
            Between::None => Perturbation::None,
            Between::Reuse => {
                let main = step.main();
                reuse::fitted(&self.last, &*step.batch(&main)?)?
            }
        };
        if fresh && self.between == Between::Reuse {
            let main = step.main();
            self.last = reuse::kept(&perturbation, &*step.batch(&main)?)?;
        }
        step.gradients(&perturbation)
    }

    fn state(&self) -> Result<State> {
        Ok(reuse::saved(&self.last))
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let last = reuse::read(state)?;
        if self.between == Between::None && !matches!(last, Perturbation::None) {
            let problem = "the state holds a perturbation, but `between` is `none`";
            return Err(Error::State(problem.into()));
        }
        self.last = last;
        Ok(())
    }
}

/// The perturber: the gradient of the loss at the sites, scaled to norm `rho`.
///
/// It is the first-order solution of the inner problem (section 3.2): `eps = rho g / (n + 1e-7)`,
/// where `g` is the gradient at all sites of one scope and `n` its L2 norm. On padding it is zero.
pub struct GradientPerturber {
    config: GradientPerturberConfig,
}

impl GradientPerturber {
    /// A perturber with these settings.
    pub fn new(config: GradientPerturberConfig) -> Self {
        Self { config }
    }
}

impl Perturber for GradientPerturber {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let GradientPerturberConfig { rho, scope, sites, same_dropout } = &self.config;
        let sites = sites.resolve(step.architecture().layers)?;
        let role = if *same_dropout { Role::Outer } else { Role::Probe };

        let (loss, mut hidden) = step.on_main().role(role).site_gradients(&sites)?;
        let norms = norms(&hidden)?;
        let mut norm = Scalar::default();
        for own in norms.values() {
            norm = norm.add(&own.sqr()?)?;
        }
        let norm = norm.sqrt()?;
        step.record("loss_clean", loss)?;
        step.record("hidden_gradient_norm", norm.clone())?;
        let place = format!(" on stream `{}`", step.main());
        for (site, own) in &norms {
            step.require_finite(&format!("the loss gradient at {site}"), &place, own)?;
            step.record(&format!("hidden_gradient_norm.{site}"), own.clone())?;
        }
        step.require_finite("the norm of the loss gradient at all sites", &place, &norm)?;

        let factor = |norm: &Scalar| norm.add(&EPSILON.into())?.rdiv(*rho);
        match scope {
            Scope::Global => {
                let factor = factor(&norm)?;
                scale(&mut hidden, |_| Ok(factor.clone()))?;
            }
            Scope::PerSite => scale(&mut hidden, |site| Ok(factor(&norms[&site])?))?,
            Scope::PerExample => {
                let main = step.main();
                let rows = step.batch(&main)?.rows();
                scale_groups(&mut hidden, *rho, Some(&rows))?;
            }
            Scope::PerToken => scale_groups(&mut hidden, *rho, None)?,
        }
        Ok(Perturbation::Hidden(hidden))
    }
}

/// The L2 norm at each site, in f64.
fn norms(hidden: &Hidden) -> Result<BTreeMap<Site, Scalar>> {
    let squares = squares(&hidden.values().collect::<Vec<_>>())?;
    hidden.keys().zip(squares).map(|(site, square)| Ok((*site, square.sqrt()?))).collect()
}

fn scale(hidden: &mut Hidden, factor: impl Fn(Site) -> Result<Scalar>) -> Result<()> {
    for (site, tensor) in hidden.iter_mut() {
        *tensor = factor(*site)?.scale(tensor)?;
    }
    Ok(())
}

/// Scales each row, or each sample of `rows`, to norm `rho` over all sites.
fn scale_groups(hidden: &mut Hidden, rho: f64, rows: Option<&Rows>) -> Result<()> {
    let mut squares: Option<Tensor> = None;
    for tensor in hidden.values() {
        let own = tensor.to_dtype(DType::F64)?.sqr()?.sum_keepdim(1)?;
        squares = Some(match squares {
            Some(sum) => (sum + own)?,
            None => own,
        });
    }
    let Some(mut squares) = squares else { return Ok(()) };
    if let Some(rows) = rows {
        let samples = rows.samples_of(squares.device())?;
        let none = Tensor::zeros((rows.samples(), 1), DType::F64, squares.device())?;
        squares = none.index_add(&samples, &squares, 0)?.index_select(&samples, 0)?;
    }
    let factor = ((squares.sqrt()? + EPSILON)?.recip()? * rho)?;
    for tensor in hidden.values_mut() {
        // Computed in f64 and rounded once, so that no group exceeds `rho`.
        let scaled = tensor.to_dtype(DType::F64)?.broadcast_mul(&factor)?;
        *tensor = scaled.to_dtype(tensor.dtype())?;
    }
    Ok(())
}
