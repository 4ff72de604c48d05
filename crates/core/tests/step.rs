//! What a step gives and rejects: streams, snapshots, other weights, shares.

use candle_core::DType;
use vxf_core::batch::IGNORED;
use vxf_core::minmax::Training;
use vxf_core::step::{Role, Session};
use vxf_core::stream::{Stream, Streams};
use vxf_core::{
    Backbone, Batch, Defense, Error, Gradients, Hidden, Key, Params, Perturbation, Perturber,
    Result, Site, Step,
};
use vxf_testkit::batches::Rows;
use vxf_testkit::numbers::{first_difference, relative_distance};
use vxf_testkit::training::{self, Nothing, Plain};
use vxf_testkit::{Toy, ToyShape};

fn toy() -> Toy {
    Toy::new(&ToyShape { dropout: 0.2, ..ToyShape::default() }, DType::F64, 2).expect("a toy")
}

fn session(streams: Vec<(&str, Vec<Batch>)>, accumulation: usize) -> Session {
    let main = streams[0].0.to_owned();
    let mut all = Streams::new();
    for (name, batches) in streams {
        all.insert(name, Stream::of_batches(batches)).expect("samples");
    }
    let mut session = Session::new(all, &main, Key::root(3));
    session.accumulation = accumulation;
    session
}

fn batches(toy: &Toy, name: &str) -> Vec<Batch> {
    training::batches(toy, 4, &Key::root(1).child(name)).expect("batches")
}

fn weights(toy: &Toy) -> Params {
    training::weights(toy, 4).expect("weights")
}

/// A batch whose labels are all ignored.
fn silent(batch: &Batch) -> Batch {
    Batch { targets: vec![IGNORED; batch.targets.len()], ..batch.clone() }
}

#[test]
fn what_is_not_there_is_named() {
    let (toy, weights) = (toy(), weights(&toy()));
    let mut session = session(vec![("user", batches(&toy, "user"))], 1);
    let mut step = Step::new(&toy, &weights, &mut session, (0, 1), 0);
    let message = step.batch("harmful").expect_err("no such stream").to_string();
    assert!(message.contains("`harmful`") && message.contains("user"), "{message}");
    let error = step.on("harmful").gradients().expect_err("no such stream");
    assert!(matches!(error, Error::UnknownStream { .. }), "{error}");
    let message = step.snapshot_of("aligned").expect_err("not taken").to_string();
    assert!(message.contains("step.snapshot(\"aligned\")"), "{message}");
    let beyond = [Site::block_output(9)];
    let error = step.on("user").hidden(&beyond).expect_err("no such layer");
    assert!(error.to_string().contains("block_output.9"), "{error}");
    let error = step.on("user").site_gradients(&beyond).expect_err("no such layer");
    assert!(error.to_string().contains("block_output.9"), "{error}");
    let elsewhere = Hidden::from([(beyond[0], weights.get("output.weight").expect("it").clone())]);
    let error = step.gradients(&Perturbation::Hidden(elsewhere)).expect_err("no such layer");
    assert!(error.to_string().contains("block_output.9"), "{error}");
    let stray =
        Params::from_iter([("stray".to_owned(), weights.get("norm.weight").expect("it").clone())]);
    let error = step.gradients(&Perturbation::Weights(stray)).expect_err("no such weight");
    assert!(error.to_string().contains("stray"), "{error}");
    let empty = Streams::new().insert("user", Stream::of_batches(Vec::new()));
    assert!(matches!(empty, Err(Error::EmptyStream { .. })));
}

#[test]
fn a_batch_without_a_label_is_refused_by_its_stream() {
    let (toy, weights) = (toy(), weights(&toy()));
    let quiet: Vec<_> = batches(&toy, "user").iter().map(silent).collect();
    for accumulation in [1, 2] {
        let streams = vec![("user", Stream::of_batches(quiet.clone()))];
        let (defense, inner) = (Box::new(Plain), Box::new(Nothing));
        let mut stage =
            training::training(&toy, &weights, streams, defense, inner).expect("a stage");
        stage.session.accumulation = accumulation;
        let error = stage.step().expect_err("nothing to learn");
        assert!(matches!(&error, Error::NothingLabelled { stream } if stream == "user"), "{error}");
    }
}

#[test]
fn a_micro_batch_without_a_label_weighs_nothing() {
    let (toy, weights) = (toy(), weights(&toy()));
    let batch = batches(&toy, "user").remove(0);
    let of = |batches| {
        let (defense, inner) = (Box::new(Plain), Box::new(Nothing));
        let stage = training::accumulating(&toy, &weights, batches, defense, inner);
        training::gradient(stage.expect("a stage")).expect("a gradient")
    };
    let (alone, gradient) = of(vec![batch.clone()]);
    let (beside, same) = of(vec![batch.clone(), silent(&batch)]);
    assert_eq!(first_difference(&gradient, &same).expect("numbers"), None);
    assert_eq!(alone.figures, beside.figures);
}

/// The gradient of a stream beside the main one.
struct Other;

impl Defense for Other {
    fn gradients(&mut self, _: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        step.on("other").role(Role::Evaluation).gradients()
    }
}

#[test]
fn micro_batches_of_another_stream_make_its_own_large_batch() {
    let (toy, weights) = (toy(), weights(&toy()));
    for seed in 0..8 {
        let rows = |name| Rows::random(6, 6, 13, &Key::root(seed).child(name));
        let gradient = |accumulation| {
            let parts = |name| {
                Stream::of_batches(
                    rows(name).parts(accumulation, vxf_testkit::device()).expect("parts"),
                )
            };
            let streams = vec![("main", parts("main")), ("other", parts("other"))];
            let (defense, inner) = (Box::new(Other), Box::new(Nothing));
            let mut stage: Training<'_> =
                training::training(&toy, &weights, streams, defense, inner).expect("a stage");
            stage.session.accumulation = accumulation;
            training::gradient(stage).expect("a gradient").1
        };
        let whole = gradient(1);
        for parts in [2, 3] {
            let off = relative_distance(&gradient(parts), &whole).expect("numbers");
            // f64 sums in another order.
            assert!(off < 1e-12, "off by {off} in {parts} parts");
        }
    }
}

#[test]
fn a_batch_stays_the_same_within_a_step_until_it_is_drawn_anew() {
    let (toy, weights) = (toy(), weights(&toy()));
    let main = batches(&toy, "user");
    let mut session = session(vec![("user", main.clone())], 2);
    for (micro, own) in main.iter().enumerate().take(2) {
        let mut step = Step::new(&toy, &weights, &mut session, (0, 1), micro);
        for _ in 0..2 {
            assert_eq!(step.batch("user").expect("a batch").targets, own.targets);
        }
    }
    let mut step = Step::new(&toy, &weights, &mut session, (0, 1), 1);
    step.redraw("user").expect("further batches");
    assert_eq!(step.batch("user").expect("a batch").targets, main[3].targets);
}

#[test]
fn a_snapshot_does_not_follow_the_weights() {
    let (toy, mut weights) = (toy(), weights(&toy()));
    let mut session = session(vec![("user", batches(&toy, "user"))], 1);
    let before = weights.copy().expect("a copy");
    Step::new(&toy, &weights, &mut session, (0, 1), 0).snapshot("then").expect("a copy");
    let mut adam = vxf_core::optimizer::AdamW::new(Default::default(), &toy.parameters(), &weights)
        .expect("at rest");
    adam.step(&mut weights, &before, 1.0, 0.1).expect("moved in place");
    assert!(first_difference(&weights, &before).expect("numbers").is_some());
    let step = Step::new(&toy, &weights, &mut session, (0, 1), 0);
    let then = step.snapshot_of("then").expect("taken");
    assert_eq!(first_difference(then, &before).expect("numbers"), None);
}

#[test]
fn other_weights_hold_only_within_their_scope() {
    let (toy, weights) = (toy(), weights(&toy()));
    let mut session = session(vec![("user", batches(&toy, "user"))], 1);
    let mut step = Step::new(&toy, &weights, &mut session, (0, 1), 0);
    let loss = |step: &mut Step<'_>| step.on("user").role(Role::Evaluation).loss();
    let own = loss(&mut step).expect("a loss");
    let other = weights.scale(0.5).expect("other weights");
    let inside = step.with_weights(&other, loss).expect("a loss");
    assert_ne!(own, inside);
    assert_eq!(loss(&mut step).expect("a loss"), own);
    let failed: Result<()> = step.with_weights(&other, |step| step.snapshot_of("none").map(|_| ()));
    assert!(failed.is_err());
    assert_eq!(loss(&mut step).expect("a loss"), own, "also when it failed inside");
}

#[test]
fn roles_decide_the_dropout() {
    let (toy, weights) = (toy(), weights(&toy()));
    let loss = |index, role| {
        let mut session = session(vec![("user", batches(&toy, "user"))], 1);
        let mut step = Step::new(&toy, &weights, &mut session, (index, 9), 0);
        step.on("user").role(role).loss().expect("a loss")
    };
    for role in [Role::Outer, Role::Probe, Role::Evaluation] {
        assert_eq!(loss(0, role), loss(0, role), "{role:?} repeats itself");
    }
    let outer = loss(0, Role::Outer);
    assert_ne!(outer, loss(0, Role::Probe));
    assert_ne!(outer, loss(0, Role::Evaluation));
    assert_ne!(outer, loss(1, Role::Outer), "each step draws anew");
    assert_eq!(loss(0, Role::Evaluation), loss(1, Role::Evaluation));
}
