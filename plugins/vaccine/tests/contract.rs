//! Vaccine and its inner player keep the laws of their kinds.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_testkit::perturber::Asked;
use vxf_testkit::{config_laws, defense_laws, gradient_perturber_laws, perturber_laws};
use vxf_vaccine::{GradientPerturber, GradientPerturberConfig, Scope};

fn made(asked: &Asked) -> Box<dyn Perturber> {
    let scope = match asked.scope {
        vxf_testkit::Scope::Global => Scope::Global,
        vxf_testkit::Scope::PerSite => Scope::PerSite,
        vxf_testkit::Scope::PerExample => Scope::PerExample,
        vxf_testkit::Scope::PerToken => Scope::PerToken,
    };
    let (rho, sites) = (asked.rho, asked.sites.clone());
    let config = GradientPerturberConfig { rho, scope, sites, ..Default::default() };
    Box::new(GradientPerturber::new(config))
}

perturber_laws!(made);
gradient_perturber_laws!(made);
defense_laws!("vaccine", json!({ "tau": 2 }));
config_laws!(perturber "vaccine", json!({ "rho": 0.5, "scope": "per_token", "sites": ["embedding", "block_output.1"] }));

mod same_masks {
    use super::*;

    // With the outer pass's masks the inner gradient is the outer one's, dropout or not.
    perturber_laws!(|asked: &Asked| {
        let (rho, sites) = (asked.rho, asked.sites.clone());
        let config =
            GradientPerturberConfig { rho, sites, same_dropout: true, ..Default::default() };
        Box::new(GradientPerturber::new(config)) as Box<dyn Perturber>
    });
}

mod every_tau_steps {
    use super::*;
    use vxf_core::stream::Stream;
    use vxf_testkit::case::{cases, property};
    use vxf_testkit::numbers::first_difference;
    use vxf_testkit::training::{Nothing, Plain, training};
    use vxf_vaccine::Vaccine;

    /// Between fresh perturbations the step is a plain one, and one that is never due again
    /// leaves plain fine-tuning behind.
    #[test]
    fn only_every_tau_th_step_is_perturbed() {
        property(8, (cases(), 1u64..=4), |(case, tau)| {
            let backbone = case.backbone()?;
            let weights = case.weights(&*backbone)?;
            let asked =
                Asked { rho: 2.0, scope: vxf_testkit::Scope::Global, sites: case.selection()? };
            let start = |defense: Box<dyn Defense>, perturber: Box<dyn Perturber>| {
                let streams = vec![("main", Stream::of_batches(vec![case.batch()?]))];
                training(&*backbone, &weights, streams, defense, perturber)
            };
            let mut vaccine = start(Box::new(Vaccine::new(tau)), made(&asked))?;
            for step in 0..5 {
                // A plain step from the same state.
                let mut plain = start(Box::new(Plain), Box::new(Nothing))?;
                vxf_testkit::defense::resume(&mut plain, start_again(&vaccine)?)?;
                plain.step()?;
                vaccine.step()?;
                let same = first_difference(&plain.weights, &vaccine.weights)?.is_none();
                assert_eq!(same, step % tau != 0, "step {step}, tau {tau}");
            }
            Ok(())
        });
    }

    fn start_again<'a>(
        stage: &vxf_core::minmax::Training<'a>,
    ) -> Result<vxf_core::minmax::Training<'a>> {
        let mut copy = training(
            stage.backbone,
            &stage.weights,
            Vec::new(),
            Box::new(Plain),
            Box::new(Nothing),
        )?;
        copy.optimizer = stage.optimizer.clone();
        copy.session.streams = stage.session.streams.clone();
        copy.next = stage.next;
        Ok(copy)
    }
}
