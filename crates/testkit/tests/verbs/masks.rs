//! Which passes draw the same dropout masks.

use candle_core::DType;
use vxf_core::step::Role;
use vxf_core::{Gradients, Perturbation, Result, Site, Step};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::{self, Nothing, defense_of};
use vxf_testkit::{Toy, ToyShape};

use crate::{batches, stage};

/// The gradient of the first step of a toy with dropout.
fn gradient(f: impl FnMut(&mut Step<'_>) -> Result<Gradients> + Send + 'static) -> Gradients {
    let shape = ToyShape { layers: 2, dropout: 0.5, ..ToyShape::default() };
    let toy = Toy::new(&shape, DType::F64, 21).expect("a toy");
    let streams = ["main", "harmful"].map(|name| (name, batches(&toy, 6, name)));
    let stage = stage(&toy, streams.into_iter().collect(), defense_of(f), Box::new(Nothing));
    training::gradient(stage).expect("a gradient").1
}

#[test]
fn each_probing_pass_draws_its_own() {
    gradient(|step| {
        let mut seen = Vec::new();
        for _ in 0..4 {
            for stream in ["harmful", "main"] {
                seen.push(step.on(stream).role(Role::Probe).loss()?);
            }
            // Passes of other verbs and with other weights count too.
            let weights = step.weights().clone();
            let probe = |step: &mut Step<'_>| {
                let query = step.on("harmful").role(Role::Probe);
                Ok(query.site_gradients(&[Site::EMBEDDING])?.0.value()?)
            };
            seen.push(step.with_weights(&weights, probe)?);
        }
        for (at, loss) in seen.iter().enumerate() {
            assert!(!seen[..at].contains(loss), "two passes with the same masks: {seen:?}");
        }
        step.gradients(&Perturbation::None)
    });
}

/// Vaccine at radius 0 is plain fine-tuning, however many passes come before.
#[test]
fn the_outer_passes_over_a_batch_share_masks() {
    let plain = gradient(|step| step.gradients(&Perturbation::None));
    let late = gradient(|step| {
        for _ in 0..3 {
            step.on("main").role(Role::Probe).loss()?;
            step.on("main").gradients()?;
        }
        step.gradients(&Perturbation::None)
    });
    assert_eq!(first_difference(&plain, &late).expect("numbers"), None);
}

/// The steps of a simulated run are outer passes over fresh batches.
#[test]
fn a_batch_that_is_drawn_anew_has_new_masks() {
    gradient(|step| {
        let shape = ToyShape { layers: 2, dropout: 0.5, ..ToyShape::default() };
        let toy = Toy::new(&shape, DType::F64, 21)?;
        // Always the same batch, so that passes differ in their masks only.
        let one = batches(&toy, 1, "one");
        let streams = vec![("one", vxf_core::stream::Stream::of_batches(one))];
        let weights = training::weights(&toy, 3)?;
        let inner = defense_of(|step| {
            let mut seen = Vec::new();
            for _ in 0..3 {
                seen.push(step.on("one").loss()?);
                assert_eq!(seen.last(), Some(&step.on("one").loss()?));
                step.redraw("one")?;
            }
            assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
            step.gradients(&Perturbation::None)
        });
        training::training(&toy, &weights, streams, inner, Box::new(Nothing))?.step()?;
        step.gradients(&Perturbation::None)
    });
}
