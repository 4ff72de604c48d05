//! The laws of inner players hold for simple ones, and fail for broken ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Tensor};
use vxf_core::numeric::sum_of_squares;
use vxf_core::step::Role;
use vxf_core::{Hidden, Perturbation, Perturber, Result, Rows, Step};
use vxf_testkit::Scope;
use vxf_testkit::perturber::{self, Asked, accumulation, gradient};
use vxf_testkit::training::Nothing;

/// A simple form of Vaccine's inner player, with an optional defect.
struct Simple {
    asked: Asked,
    defect: Option<Defect>,
}

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    /// Omits the guard on the norm, and divides by zero.
    NoGuard,
    /// Perturbs padding as well.
    Everywhere,
    /// Perturbs an additional site.
    FurtherSite,
    /// Exceeds the radius by one part in a hundred thousand.
    TooFar,
    /// Does not normalise.
    Unscaled,
    /// Goes down instead of up.
    Downhill,
    /// Computes gradients of the weights that it does not need.
    Wasteful,
}

fn simple(asked: &Asked) -> Box<dyn Perturber> {
    Box::new(Simple { asked: asked.clone(), defect: None })
}

fn broken(defect: Defect) -> impl Fn(&Asked) -> Box<dyn Perturber> {
    move |asked| Box::new(Simple { asked: asked.clone(), defect: Some(defect) })
}

impl Perturber for Simple {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let layers = step.architecture().layers;
        let has = |defect| self.defect == Some(defect);
        let mut sites = self.asked.sites.resolve(layers)?;
        if has(Defect::FurtherSite) {
            let all = ["embedding", "attention_output", "mlp_output", "block_output"];
            let all = vxf_core::SiteSelection::try_from(all.map(str::to_owned).to_vec())?;
            sites.extend(all.resolve(layers)?.into_iter().find(|site| !sites.contains(site)));
        }
        if has(Defect::Wasteful) {
            step.on_main().role(Role::Probe).gradients()?;
        }
        let (_, mut hidden) = step.on_main().role(Role::Probe).site_gradients(&sites)?;
        if has(Defect::Everywhere) {
            for tensor in hidden.values_mut() {
                *tensor = tensor.ones_like()?;
            }
        }
        let main = step.main();
        let factors = self.factors(&hidden, &step.batch(&main)?.rows())?;
        for (number, tensor) in hidden.values_mut().enumerate() {
            let wide = tensor.to_dtype(DType::F64)?.broadcast_mul(&factors[number])?;
            *tensor = wide.to_dtype(tensor.dtype())?;
        }
        Ok(Perturbation::Hidden(hidden))
    }
}

impl Simple {
    /// What the gradient at each site is multiplied by, `[positions, 1]` or one for all.
    fn factors(&self, hidden: &Hidden, rows: &Rows) -> Result<Vec<Tensor>> {
        let reach = match self.defect {
            Some(Defect::TooFar) => self.asked.rho * (1.0 + 1e-5),
            Some(Defect::Downhill) => -self.asked.rho,
            _ => self.asked.rho,
        };
        let guard = if self.defect == Some(Defect::NoGuard) { 0.0 } else { 1e-7 };
        let factor = |squares: &Tensor| -> Result<Tensor> {
            if self.defect == Some(Defect::Unscaled) {
                return Ok((squares.ones_like()? * reach)?);
            }
            Ok(((squares.sqrt()? + guard)?.recip()? * reach)?)
        };
        let constant = |squares: f64| Tensor::new(&[squares], &candle_core::Device::Cpu);
        let own = hidden.values().map(sum_of_squares).collect::<candle_core::Result<Vec<_>>>()?;
        match self.asked.scope {
            Scope::Global => {
                return Ok(vec![factor(&constant(own.iter().sum())?)?; own.len()]);
            }
            Scope::PerSite => {
                return own.iter().map(|squares| factor(&constant(*squares)?)).collect();
            }
            Scope::PerExample | Scope::PerToken => {}
        }
        let mut squares = vec![0.0; rows.count()];
        for tensor in hidden.values() {
            let own = tensor.to_dtype(DType::F64)?.sqr()?.sum(1)?.to_vec1::<f64>()?;
            squares.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
        if self.asked.scope == Scope::PerExample {
            for range in rows.ranges() {
                let sum = squares[range.clone()].iter().sum();
                squares[range].fill(sum);
            }
        }
        let squares = Tensor::from_vec(squares, (rows.count(), 1), &candle_core::Device::Cpu)?;
        Ok(vec![factor(&squares)?; own.len()])
    }
}

mod nothing {
    use super::*;

    vxf_testkit::perturber_laws!(|_: &Asked| Box::new(Nothing) as Box<dyn Perturber>);

    #[test]
    fn equals_the_large_batch() {
        accumulation::equals_the_large_batch(|_| Box::new(Nothing), &Scope::ALL);
    }
}

/// Moves the weights along the gradient on another stream.
struct Elsewhere {
    rho: f64,
}

impl Perturber for Elsewhere {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let gradients = step.on("harmful").role(Role::Probe).gradients()?;
        Ok(Perturbation::Weights(gradients.scale(self.rho / gradients.norm()?)?))
    }
}

mod elsewhere {
    use super::*;

    vxf_testkit::perturber_laws!(|asked: &Asked| {
        Box::new(Elsewhere { rho: asked.rho }) as Box<dyn Perturber>
    });
}

vxf_testkit::perturber_laws!(simple);
vxf_testkit::gradient_perturber_laws!(simple);

fn refused(law: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(law)).is_err(), "the law accepted a broken player");
}

#[test]
fn each_defect_is_found() {
    refused(|| gradient::vanishes_with_the_gradient(broken(Defect::NoGuard)));
    refused(|| perturber::is_zero_on_padding(broken(Defect::Everywhere)));
    refused(|| perturber::leaves_other_sites_alone(broken(Defect::FurtherSite)));
    refused(|| gradient::is_the_scaled_gradient(broken(Defect::TooFar)));
    refused(|| gradient::is_the_scaled_gradient(broken(Defect::Downhill)));
    refused(|| gradient::raises_the_loss_to_first_order(broken(Defect::Downhill)));
    refused(|| gradient::ignores_the_scale_of_the_loss(broken(Defect::Unscaled)));
    refused(|| gradient::takes_no_weight_gradients(broken(Defect::Wasteful)));
    // At radius 0 only a player that ignores the radius changes anything.
    let constant = |asked: &Asked| simple(&Asked { rho: 1e-3, ..asked.clone() });
    refused(|| perturber::is_plain_fine_tuning_at_radius_zero(constant));
    // Each micro-batch spends its own budget per batch.
    let global = |asked: &Asked| simple(&Asked { scope: Scope::Global, ..asked.clone() });
    refused(|| accumulation::equals_the_large_batch(global, &[Scope::Global]));
    refused(|| gradient::ignores_further_padding(broken(Defect::Everywhere)));
}

#[test]
fn spending_too_little_is_found() {
    // A budget shared by the whole batch, where each sample should have its own.
    let global = |asked: &Asked| simple(&Asked { scope: Scope::Global, ..asked.clone() });
    refused(|| gradient::is_the_scaled_gradient(global));
}
