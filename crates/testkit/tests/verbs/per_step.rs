//! Methods that act once per micro-batch, and methods that act once per step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vxf_core::minmax::Training;
use vxf_core::step::Role;
use vxf_core::stream::Stream;
use vxf_core::{
    Batch, Defense, Gradients, Hidden, Key, Params, Perturbation, Perturber, Result, Site, Step,
};
use vxf_testkit::batches::Rows;
use vxf_testkit::numbers::{first_difference, relative_distance};
use vxf_testkit::training::{self, Nothing, defense_of, defense_per_step, training};
use vxf_testkit::{Toy, ToyShape};

use crate::toy;

type Act = fn(&mut Step<'_>) -> Result<Gradients>;

/// A stage with the streams `main` and `other`, of twelve samples each in `parts` micro-batches.
fn stage<'a>(toy: &'a Toy, parts: usize, defense: Box<dyn Defense>) -> Training<'a> {
    let stream = |name| {
        let rows = Rows::random(12, 6, 13, &Key::root(5).child(name));
        Stream::of_batches(rows.parts(parts, vxf_testkit::device()).expect("parts"))
    };
    let streams = vec![("main", stream("main")), ("other", stream("other"))];
    let weights = training::weights(toy, 8).expect("weights");
    let stage = training(toy, &weights, streams, defense, Box::new(Nothing));
    let mut stage = stage.expect("a stage");
    stage.session.accumulation = parts;
    stage
}

fn gradient(parts: usize, defense: Box<dyn Defense>) -> Gradients {
    training::gradient(stage(&toy(), parts, defense)).expect("a gradient").1
}

#[test]
fn per_step_decides_how_often_a_defence_is_called() {
    for (per_step, expected) in [(false, 4), (true, 1)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let act = move |step: &mut Step<'_>| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert_eq!(step.micro_batches(), 4);
            step.gradients(&Perturbation::None)
        };
        let defense = if per_step { defense_per_step(act) } else { defense_of(act) };
        let toy = toy();
        stage(&toy, 4, defense).step().expect("a step");
        assert_eq!(calls.load(Ordering::Relaxed), expected);
    }
}

/// Plain fine-tuning is the same to the bit either way, dropout, figures and records included.
#[test]
fn plain_fine_tuning_is_the_same_per_step() {
    let shape = ToyShape { dropout: 0.3, ..ToyShape::default() };
    let toy = Toy::new(&shape, candle_core::DType::F32, 3).expect("a toy");
    let act: Act = |step| {
        step.record("one", 1.0)?;
        step.gradients(&Perturbation::None)
    };
    let run = |defense| {
        let mut stage = stage(&toy, 3, defense);
        let seen: Vec<_> = (0..3).map(|_| stage.step().expect("a step")).collect();
        (seen, stage.weights)
    };
    let (micro, whole) = (run(defense_of(act)), run(defense_per_step(act)));
    assert_eq!(first_difference(&micro.1, &whole.1).expect("numbers"), None);
    for (micro, whole) in micro.0.iter().zip(&whole.0) {
        assert!((micro.figures["one"] - 1.0).abs() < 1e-15 && whole.figures["one"] == 1.0);
        assert_eq!(micro.loss().expect("a loss"), whole.loss().expect("a loss"));
        assert_eq!(micro.gradient_norm, whole.gradient_norm);
    }
}

/// A gradient scaled by its norm, as in sharpness-aware or normalised methods, is that of the large
/// batch only if the method acts per step.
#[test]
fn a_nonlinear_gradient_is_of_the_large_batch() {
    let acts: [Act; 3] = [
        |step| {
            let gradients = step.on_main().gradients()?;
            let factor = 0.5 / gradients.norm()?;
            step.gradients(&Perturbation::Weights(gradients.scale(factor)?))
        },
        |step| {
            let gradients = step.on("other").gradients()?;
            gradients.scale(1.0 / gradients.norm()?)
        },
        |step| step.gradients(&Perturbation::None)?.scale(step.on("other").loss()?),
    ];
    for act in acts {
        let large = gradient(1, defense_of(act));
        for parts in [2, 3] {
            let per_step = gradient(parts, defense_per_step(act));
            let per_micro = gradient(parts, defense_of(act));
            let off = |it: &Params| relative_distance(it, &large).expect("numbers");
            assert!(off(&per_step) < 1e-12, "off by {} per step", off(&per_step));
            assert!(off(&per_micro) > 1e-4, "off by {} per micro-batch", off(&per_micro));
            // `whole` does the same for a single query.
            let whole: Act = |step| step.on_main().whole().gradients();
            let whole = gradient(parts, defense_of(whole));
            let plain = gradient(1, defense_of(|step| step.gradients(&Perturbation::None)));
            assert!(relative_distance(&whole, &plain).expect("numbers") < 1e-12);
        }
    }
}

#[test]
fn micro_batch_verbs_reject_a_whole_step() {
    let refusing = |step: &mut Step<'_>| {
        let site = [Site::block_output(0)];
        let hidden = Perturbation::Hidden(Hidden::new());
        let refused = [
            ("`batch`", step.batch("main").map(drop)),
            ("`logits`", step.on_main().logits().map(drop)),
            ("`hidden`", step.on("other").hidden(&site).map(drop)),
            ("`site_gradients`", step.on_main().site_gradients(&site).map(drop)),
            ("`whole`", step.gradients(&hidden).map(drop)),
            ("`whole`", step.on_main().perturbed(&hidden).loss().map(drop)),
        ];
        for (verb, refused) in refused {
            let error = refused.expect_err(verb).to_string();
            assert!(error.contains(verb) && error.contains("step.accumulate("), "{error}");
        }
        // Within `accumulate` all of them work.
        step.accumulate(|step| {
            step.on_main().logits()?;
            let (_, found) = step.on_main().role(Role::Probe).site_gradients(&site)?;
            step.gradients(&Perturbation::Hidden(found))
        })
    };
    let per_step = gradient(3, defense_per_step(refusing));
    let per_micro = gradient(
        3,
        defense_of(|step| {
            let site = [Site::block_output(0)];
            let (_, found) = step.on_main().role(Role::Probe).site_gradients(&site)?;
            step.gradients(&Perturbation::Hidden(found))
        }),
    );
    assert_eq!(first_difference(&per_step, &per_micro).expect("numbers"), None);
}

/// An inner player also gets the whole step.
struct Sharpness;

impl Perturber for Sharpness {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let gradients = step.on_main().role(Role::Probe).gradients()?;
        Ok(Perturbation::Weights(gradients.scale(0.3 / gradients.norm()?)?))
    }
}

struct PerStep;

impl Defense for PerStep {
    fn per_step(&self) -> bool {
        true
    }
}

#[test]
fn an_inner_player_sees_the_whole_step() {
    let toy = toy();
    let of = |parts| {
        let mut stage = stage(&toy, parts, Box::new(PerStep));
        stage.perturber = Box::new(Sharpness);
        training::gradient(stage).expect("a gradient").1
    };
    let off = relative_distance(&of(3), &of(1)).expect("numbers");
    assert!(off < 1e-12, "off by {off}");
}

/// Steps on another stream do not advance the main one, with and without accumulation.
#[test]
fn a_step_on_another_stream_does_not_advance_the_main_one() {
    let acts: [Act; 2] = [
        |step| {
            let (loss, gradients) = step.on("other").loss_and_gradients()?;
            step.record("loss", loss)?;
            Ok(gradients)
        },
        |step| step.on("other").gradients(),
    ];
    let toy = toy();
    for act in acts {
        for parts in [1, 2, 3] {
            let mut stage = stage(&toy, parts, defense_of(act));
            for _ in 0..3 {
                stage.step().expect("a step");
            }
            let read = stage.session.streams.positions();
            assert_eq!((read["main"], read["other"]), (0, 3 * parts as u64), "{parts} parts");
        }
        // And the gradient is that of the other stream's large batch.
        let off = relative_distance(&gradient(3, defense_of(act)), &gradient(1, defense_of(act)));
        assert!(off.expect("numbers") < 1e-12);
    }
}

/// Reading the share of a stream does not advance it; using its batch does, once.
#[test]
fn the_share_belongs_to_the_batch_that_is_used() {
    let toy = toy();
    let defense = defense_of(|step| {
        step.share("other")?;
        let before = step.batch("main")?;
        let gradients = step.gradients(&Perturbation::None)?;
        assert_eq!(before.targets, step.batch("main")?.targets);
        Ok(gradients)
    });
    let mut stage = stage(&toy, 2, defense);
    stage.step().expect("a step");
    let read = stage.session.streams.positions();
    assert_eq!((read["main"], read["other"]), (2, 0));
}

/// A micro-batch whose main samples have no label is skipped together with the other stream's
/// batch; the rest of the other stream is averaged over its own labels.
#[test]
fn a_skipped_micro_batch_does_not_change_the_weight_of_others() {
    let toy = toy();
    let of = |silent: bool| -> Result<Gradients> {
        let parts = |name: &str| {
            Rows::random(6, 6, 13, &Key::root(5).child(name)).parts(2, vxf_testkit::device())
        };
        let (mut main, mut other) = (parts("main")?, parts("other")?);
        if silent {
            let quiet = vec![vxf_core::batch::IGNORED; main[1].targets.len()];
            main[1] = Batch { targets: quiet, ..main[1].clone() };
        } else {
            main.truncate(1);
            other.truncate(1);
        }
        let accumulation = main.len();
        let streams =
            vec![("main", Stream::of_batches(main)), ("other", Stream::of_batches(other))];
        let defense = defense_of(|step| {
            let other = step.on("other").gradients()?;
            step.gradients(&Perturbation::None)?.add_scaled(&other, 0.5)
        });
        let weights = training::weights(&toy, 8)?;
        let mut stage = training(&toy, &weights, streams, defense, Box::new(Nothing))?;
        stage.session.accumulation = accumulation;
        Ok(training::gradient(stage)?.1)
    };
    let (with, without) = (of(true).expect("a gradient"), of(false).expect("a gradient"));
    assert_eq!(first_difference(&with, &without).expect("numbers"), None);
}
