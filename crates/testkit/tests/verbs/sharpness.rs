//! SAM (Foret et al. 2021): the inner player perturbs the weights.

use vxf_core::{Perturbation, Perturber, Result, Step};
use vxf_testkit::training::Plain;

use crate::{batches, stage, toy};
use vxf_testkit::plain::{self, follow};

/// `w + rho g / |g|`.
struct Sharpness {
    rho: f64,
}

impl Perturber for Sharpness {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let gradients = step.on_main().gradients()?;
        let factor = self.rho / gradients.norm()?;
        Ok(Perturbation::Weights(gradients.scale(factor)?))
    }
}

#[test]
fn perturbed_weights_follow_the_plain_computation() {
    let toy = toy();
    let main = batches(&toy, 4, "main");
    let rho = 0.3;
    let training =
        stage(&toy, vec![("main", main.clone())], Box::new(Plain), Box::new(Sharpness { rho }));
    let mut parted = 0.0;
    follow(training, 6, |step, weights| {
        let batch = &main[step as usize % main.len()];
        let here = plain::gradient(weights, |w| Ok(plain::pass(w, batch)?.loss))?;
        let there = plain::plus(weights, &here, rho / plain::norm(&here)?)?;
        let uphill = plain::gradient(&there, |w| Ok(plain::pass(w, batch)?.loss))?;
        parted += plain::norm(&plain::plus(&uphill, &here, -1.0)?)?;
        Ok(uphill)
    });
    assert!(parted > 0.1, "at this radius it is not plain fine-tuning");
}
