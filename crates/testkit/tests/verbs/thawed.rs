//! A weight that is missing from the gradient is frozen, and its own step count continues when it
//! returns.

use vxf_core::{Defense, Gradients, Perturber, Result, Step};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::Nothing;

use crate::{batches, stage, toy};
use vxf_testkit::plain::{self, Weights, follow};

/// The layers that are trained in each step.
fn trained(name: &str, step: u64) -> bool {
    match name {
        name if name.contains("layers.0.") => step >= 6,
        name if name.contains("layers.1.") => !(3..7).contains(&step),
        _ => true,
    }
}

struct Thawing;

impl Defense for Thawing {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let (gradients, index) = (step.gradients(&perturbation)?, step.index());
        Ok(gradients.into_iter().filter(|(name, _)| trained(name, index)).collect())
    }
}

#[test]
fn frozen_and_thawed_weights_follow_the_plain_computation() {
    let toy = toy();
    let main = batches(&toy, 3, "main");
    let training = stage(&toy, vec![("main", main.clone())], Box::new(Thawing), Box::new(Nothing));
    let first = plain::weights(&training.weights).expect("copies");
    follow(training, 12, |step, weights| {
        let resting = |name: &str| name.contains("layers.0.") && step < 6;
        for (name, weight) in weights.iter().filter(|(name, _)| resting(name)) {
            let gap = (weight - &first[name])?.abs()?.sum_all()?.to_scalar::<f64>()?;
            assert_eq!(gap, 0.0, "`{name}` rests");
        }
        let batch = &main[step as usize % main.len()];
        let gradient = plain::gradient(weights, |w| Ok(plain::pass(w, batch)?.loss))?;
        Ok(gradient.into_iter().filter(|(name, _)| trained(name, step)).collect::<Weights>())
    });
}

/// The counts are part of what is saved.
#[test]
fn a_stop_between_freezing_and_thawing_changes_no_bit() {
    let toy = toy();
    let begin = || {
        let stream = batches(&toy, 3, "main");
        stage(&toy, vec![("main", stream)], Box::new(Thawing), Box::new(Nothing))
    };
    let mut whole = begin();
    (0..10).for_each(|_| drop(whole.step().expect("a step")));
    for stop in [0, 2, 5, 6, 8] {
        let mut first = begin();
        (0..stop).for_each(|_| drop(first.step().expect("a step")));
        let mut second = begin();
        vxf_testkit::defense::resume(&mut second, first).expect("resumed");
        (stop..10).for_each(|_| drop(second.step().expect("a step")));
        let differs = first_difference(&whole.weights, &second.weights).expect("numbers");
        assert_eq!(differs, None, "stopped after {stop}");
    }
}

/// A checkpoint of a training without frozen weights has no counts.
#[test]
fn counts_of_weights_that_were_never_frozen_are_not_written() {
    let toy = toy();
    let stream = vec![("main", batches(&toy, 3, "main"))];
    let mut stage = stage(&toy, stream, Box::new(vxf_testkit::training::Plain), Box::new(Nothing));
    stage.step().expect("a step");
    let mut saved = stage.save().expect("a checkpoint");
    let text = serde_json::to_value(&saved.position).expect("plain data");
    assert!(text.get("optimizer_missed").is_none(), "{text}");
    saved.position.optimizer_missed.insert("norm.weight".to_owned(), 2);
    let error = stage.resume(saved).expect_err("more than were taken").to_string();
    assert!(error.contains("`norm.weight`") && error.contains("2 of 1"), "{error}");
}
