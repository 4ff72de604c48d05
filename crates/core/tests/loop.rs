//! The loop: rates, clipping, stopping, and numbers that are not finite.

use candle_core::{DType, Tensor};
use vxf_core::minmax::{Flow, Training};
use vxf_core::schedule::{Decay, Schedule};
use vxf_core::stream::Stream;
use vxf_core::{Backbone, Defense, Error, Gradients, Key, Perturber, Result, Step};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::{self, Nothing, Plain};
use vxf_testkit::{Scaled, Toy, ToyShape};

fn toy() -> Toy {
    Toy::new(&ToyShape::default(), DType::F32, 2).expect("a toy")
}

fn stage<'a>(backbone: &'a dyn Backbone, defense: Box<dyn Defense>) -> Training<'a> {
    let batches = training::batches(backbone, 3, &Key::root(1)).expect("batches");
    let weights = training::weights(backbone, 4).expect("weights");
    let streams = vec![("user", Stream::of_batches(batches))];
    training::training(backbone, &weights, streams, defense, Box::new(Nothing)).expect("a stage")
}

#[test]
fn rates_rise_from_zero_and_fall_to_it() {
    let toy = toy();
    let mut stage = stage(&toy, Box::new(Plain));
    stage.schedule = Schedule { peak: 0.01, decay: Decay::Linear, warmup: 2, total: 6 };
    let before = stage.weights.copy().expect("a copy");
    let (mut rates, mut moved) = (Vec::new(), Vec::new());
    let observe = |stage: &Training<'_>, observation: &vxf_core::minmax::Observation| {
        assert_eq!(observation.step, rates.len() as u64);
        rates.push(observation.rate);
        moved.push(first_difference(&before, &stage.weights)?.is_some());
        Ok::<_, Error>(Flow::Continue)
    };
    stage.run(observe).expect("six steps");
    let expected = [0.0, 0.005, 0.01, 0.0075, 0.005, 0.0025];
    assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    assert_eq!(rates.len(), 6);
    // At rate 0 weights do not change, though the optimiser has seen a gradient.
    assert_eq!(moved, [false, true, true, true, true, true]);
    assert_eq!((stage.next, stage.optimizer.steps), (6, 6));
}

#[test]
fn a_watcher_can_stop_it_and_it_goes_on_from_there() {
    let toy = toy();
    let mut whole = stage(&toy, Box::new(Plain));
    whole.schedule.total = 5;
    whole.run(|_, _| Ok::<_, Error>(Flow::Continue)).expect("five steps");

    let mut halting = stage(&toy, Box::new(Plain));
    halting.schedule.total = 5;
    let stop = |_: &Training<'_>, observation: &vxf_core::minmax::Observation| {
        Ok::<_, Error>(if observation.step == 1 { Flow::Stop } else { Flow::Continue })
    };
    halting.run(stop).expect("two steps");
    assert_eq!(halting.next, 2);
    halting.run(|_, _| Ok::<_, Error>(Flow::Continue)).expect("three more");
    assert_eq!(first_difference(&whole.weights, &halting.weights).expect("numbers"), None);
}

#[test]
fn clipping_scales_the_whole_gradient() {
    let toy = toy();
    let loud = Scaled::new(&toy, 1000.0);
    let mut free = stage(&loud, Box::new(Plain));
    free.max_gradient_norm = None;
    let norm = free.step().expect("a step").gradient_norm;
    assert!(norm > 10.0, "a loud gradient, {norm}");
    let mut clipped = stage(&loud, Box::new(Plain));
    clipped.max_gradient_norm = Some(0.5);
    assert_eq!(clipped.step().expect("a step").gradient_norm, norm, "reported before clipping");
    let moment = clipped.optimizer.first.norm().expect("a norm");
    // (1 - beta1) of a gradient of norm 0.5, in f32.
    assert!((moment - 0.05).abs() < 1e-6, "{moment}");
}

fn assert_stops_at(step: u64, quantity: &str, result: Result<impl std::fmt::Debug>) {
    let error = result.expect_err("training cannot go on");
    let Error::NotFinite { step: at, .. } = &error else { panic!("{error}") };
    assert_eq!(*at, step);
    let message = error.to_string();
    assert!(message.contains(quantity) && message.contains(&format!("step {step}")), "{message}");
}

#[test]
fn a_loss_that_is_nan_stops_it_and_names_the_step() {
    let toy = toy();
    let mut stage = stage(&toy, Box::new(Plain));
    stage.step().expect("a sound step");
    stage.step().expect("another");
    let gain = Tensor::new(&[f32::NAN; 8], toy.device()).expect("NaN");
    stage.weights.insert("norm.weight", gain);
    let before = stage.weights.copy().expect("a copy");
    assert_stops_at(2, "loss", stage.step());
    assert_eq!(stage.next, 2, "the step was not taken");
    assert_eq!(first_difference(&before, &stage.weights).expect("numbers"), None);
}

#[test]
fn a_loss_that_is_infinite_stops_it() {
    let toy = toy();
    let endless = Scaled::new(&toy, f64::INFINITY);
    assert_stops_at(0, "loss", stage(&endless, Box::new(Plain)).step());
}

#[test]
fn a_gradient_that_is_not_finite_stops_it_before_weights_move() {
    struct Blows;
    impl Defense for Blows {
        fn gradients(&mut self, _: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
            let gradients = step.gradients(&vxf_core::Perturbation::None)?;
            gradients.scale(if step.index() == 1 { f64::INFINITY } else { 1.0 })
        }
    }
    let toy = toy();
    let mut stage = stage(&toy, Box::new(Blows));
    stage.step().expect("a sound step");
    let before = stage.weights.copy().expect("a copy");
    assert_stops_at(1, "gradient norm", stage.step());
    assert_eq!(first_difference(&before, &stage.weights).expect("numbers"), None);
}
