//! Vaccine and its perturber satisfy the laws of their kinds.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_testkit::perturber::Asked;
use vxf_testkit::{config_laws, defense_laws, gradient_perturber_laws, perturber_laws};
use vxf_vaccine::{Between, GradientPerturber, GradientPerturberConfig, Scope, Vaccine};

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

    // With equal masks the inner gradient equals the outer one, with or without dropout.
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

    /// The steps between new perturbations are plain steps.
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
            let mut vaccine = start(Box::new(Vaccine::new(tau, Between::None)), made(&asked))?;
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

mod the_last_perturbation {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use proptest::prelude::Strategy;
    use vxf_core::defense::State;
    use vxf_core::minmax::Training;
    use vxf_core::stream::Stream;
    use vxf_testkit::Recording;
    use vxf_testkit::batches::Rows;
    use vxf_testkit::case::{Case, cases, property};
    use vxf_testkit::numbers::{entries, first_difference, norm};
    use vxf_testkit::training::training;

    defense_laws!("vaccine", json!({ "tau": 3, "between": "reuse" }));

    /// A case, and the rows and columns of a second batch.
    fn situations() -> impl Strategy<Value = (Case, usize, usize)> {
        (cases(), 1usize..=5, 2usize..=9)
    }

    fn batches((case, rows, longest): &(Case, usize, usize)) -> Result<[Batch; 2]> {
        let key = Key::root(case.seed).child("other");
        let other =
            Rows::random(*rows, *longest, case.shape.vocabulary, &key).with_padding(case.padding);
        Ok([case.batch()?, other.batch(vxf_testkit::device())?])
    }

    fn stage<'a>(
        situation: &(Case, usize, usize),
        backbone: &'a dyn Backbone,
        defense: Vaccine,
        asked: &Asked,
    ) -> Result<Training<'a>> {
        let case = &situation.0;
        let streams = vec![("main", Stream::of_batches(batches(situation)?.to_vec()))];
        let weights = case.weights(backbone)?;
        let mut stage = training(backbone, &weights, streams, Box::new(defense), made(asked))?;
        stage.session.recompute = case.recompute();
        Ok(stage)
    }

    /// The reused perturbation equals the last one where both batches have samples, is zero elsewhere
    /// and on padding, and stays within its radius.
    #[test]
    fn is_cut_to_the_positions_of_both_batches() {
        let scopes = proptest::sample::select(vxf_testkit::Scope::ALL.to_vec());
        let moved = std::cell::Cell::new(0);
        property(24, (situations(), scopes), |(situation, scope)| {
            let case = &situation.0;
            let backbone = case.backbone()?;
            let recording = Recording::new(&*backbone);
            let asked = Asked { rho: 2.0, scope, sites: case.selection()? };
            let reusing = Vaccine::new(2, Between::Reuse);
            let mut stage = stage(&situation, &recording, reusing, &asked)?;
            stage.step()?;
            let first = recording.take().pop().expect("the outer pass").added()?;
            stage.step()?;
            let forwards = recording.take();
            assert_eq!(forwards.len(), 1, "one pass, no inner one");
            let second = forwards[0].added()?;

            let [old, other] = batches(&situation)?;
            let (old_rows, rows) = (old.rows(), other.rows());
            let mut length = 0.0;
            for site in case.sites()? {
                let width = first[&site].dim(1)?;
                let (before, after) = (entries(&first[&site])?, entries(&second[&site])?);
                let scale = entries(&forwards[0].after[&site])?;
                for (row, (sample, at)) in rows.positions().enumerate() {
                    let real = at < other.lengths[sample];
                    let shared =
                        real && sample < old_rows.samples() && at < old_rows.range(sample).len();
                    for column in 0..width {
                        let (value, hidden) =
                            (after[row * width + column], scale[row * width + column]);
                        let expected = match shared {
                            true => before[(old_rows.range(sample).start + at) * width + column],
                            false => 0.0,
                        };
                        // Both were measured as the difference of two sums near `hidden`.
                        let error = 64.0 * case.rounding() * (hidden.abs() + expected.abs() + 1.0);
                        let gap = (value - expected).abs();
                        assert!(gap <= error, "{site} {sample} {at}: {value} {expected}");
                        assert!(real || value == 0.0, "{value} added to padding");
                        moved.set(moved.get() + usize::from(value != 0.0));
                    }
                }
                length += norm(&after).powi(2);
            }
            if scope == vxf_testkit::Scope::Global {
                assert!(length.sqrt() <= 2.0 * (1.0 + 1e-4), "{length}");
            }
            Ok(())
        });
        assert!(moved.get() > 0, "no perturbation was reused");
    }

    /// With a new perturbation in each step `between` has no effect.
    #[test]
    fn is_not_used_at_tau_1() {
        property(8, situations(), |situation| {
            let case = &situation.0;
            let backbone = case.backbone()?;
            let asked =
                Asked { rho: 2.0, scope: vxf_testkit::Scope::Global, sites: case.selection()? };
            let end = |between| -> Result<Params> {
                let mut stage = stage(&situation, &*backbone, Vaccine::new(1, between), &asked)?;
                for _ in 0..3 {
                    stage.step()?;
                }
                Ok(stage.weights)
            };
            let difference = first_difference(&end(Between::None)?, &end(Between::Reuse)?)?;
            assert_eq!(difference, None);
            Ok(())
        });
    }

    /// With `between = none` a stored perturbation is rejected.
    #[test]
    fn is_rejected_without_reuse() -> Result<()> {
        let tensor = Tensor::ones((1, 2, 3), DType::F32, &Device::Cpu)?;
        let state = |name: &str| State {
            tensors: [(name.to_owned(), tensor.clone())].into_iter().collect(),
            ..State::default()
        };
        let mut reusing = Vaccine::new(2, Between::Reuse);
        for name in ["hidden/attention_output.1", "hidden/embedding", "weights/a.weight"] {
            reusing.restore(state(name))?;
            let kept = reusing.state()?.tensors;
            assert_eq!(kept.names().collect::<Vec<_>>(), [name]);
            assert!(Vaccine::new(2, Between::None).restore(state(name)).is_err());
        }
        assert!(reusing.restore(state("hidden/attention")).is_err());
        assert!(reusing.restore(state("else")).is_err());
        Ok(())
    }
}
