//! A penalty on the distance of hidden embeddings from the initial model's (LDIFS, Mukhoti et al.
//! 2024).

use candle_core::Tensor;
use vxf_core::engine::Lens;
use vxf_core::engine::Objective;
use vxf_core::step::Role;
use vxf_core::{Defense, Gradients, Hidden, Perturber, Result, Site, Step};
use vxf_testkit::training::Nothing;

use crate::{batches, stage, toy};
use vxf_testkit::plain::{self, follow};

const SITES: [Site; 4] = [
    Site::attention_output(0),
    Site::block_output(0),
    Site::block_output(1),
    Site::block_output(2),
];

/// `loss + strength * sum over sites and real tokens of |h - h_first|^2`.
struct FeaturePenalty {
    strength: f64,
}

impl Defense for FeaturePenalty {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot("first")
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let first = step.snapshot_of("first")?.clone();
        let target =
            step.with_weights(&first, |step| step.on_main().role(Role::Evaluation).hidden(&SITES))?;
        let main = step.main();
        let mask = step.batch(&main)?.token_mask(&target[&SITES[0]])?;
        let penalty = |hidden: &Hidden, _: &Lens<'_>| -> Result<Tensor> {
            let mut sum = Tensor::zeros((), mask.dtype(), mask.device())?;
            for (site, hidden) in hidden {
                let away = (hidden - &target[site])?.broadcast_mul(&mask)?;
                sum = (sum + away.sqr()?.sum_all()?)?;
            }
            Ok((sum * self.strength)?)
        };
        let objective = Objective { hidden: Some((&SITES, &penalty)), ..Objective::default() };
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }
}

#[test]
fn a_loss_at_several_layers_follows_the_plain_computation() {
    let toy = toy();
    let main = batches(&toy, 3, "main");
    for recompute in [vxf_core::engine::Recompute::Block, vxf_core::engine::Recompute::None] {
        let strength = 0.05;
        let method = Box::new(FeaturePenalty { strength });
        let mut training = stage(&toy, vec![("main", main.clone())], method, Box::new(Nothing));
        training.session.recompute = recompute;
        let first = plain::weights(&training.weights).expect("copies");
        follow(training, 6, |step, weights| {
            let batch = &main[step as usize % main.len()];
            let target = plain::pass(&first, batch)?;
            let real = plain::real(batch)?;
            plain::gradient(weights, |w| {
                let own = plain::pass(w, batch)?;
                let mut loss = own.loss;
                let pairs = own.blocks.iter().zip(&target.blocks);
                for (a, b) in pairs.chain(own.mixed.iter().zip(&target.mixed).take(1)) {
                    let away = (a - b.detach())?.broadcast_mul(&real)?;
                    loss = (loss + (away.sqr()?.sum_all()? * strength)?)?;
                }
                Ok(loss)
            })
        });
    }
}
