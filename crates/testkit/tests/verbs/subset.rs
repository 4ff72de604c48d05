//! Gradients of a subset of the weights, and the work that this saves.

use std::collections::BTreeSet;

use candle_core::DType;
use vxf_core::engine::Recompute;
use vxf_core::prelude::*;
use vxf_core::{Lora, Trainable};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::recording::Forward;
use vxf_testkit::training::{Nothing, defense_of, training, weights};
use vxf_testkit::{Recording, Toy, ToyShape};

use crate::{batches, toy};

type Wanted = fn(&Parameter) -> bool;

/// The recorded passes of one step with the gradient of `wanted`.
fn passes(recompute: Recompute, wanted: Wanted) -> Vec<Forward> {
    let toy = toy();
    let recording = Recording::new(&toy);
    let stream = vxf_core::stream::Stream::of_batches(batches(&toy, 1, "main"));
    let defense = defense_of(move |step| step.on_main().of(&wanted).gradients());
    let start = weights(&toy, 8).expect("weights");
    let stage = training(&recording, &start, vec![("main", stream)], defense, Box::new(Nothing));
    let mut stage = stage.expect("a stage");
    stage.session.recompute = recompute;
    stage.step().expect("a step");
    recording.take()
}

/// The layers that the backward pass computed again.
fn again(wanted: Wanted) -> Vec<usize> {
    let seen = passes(Recompute::Block, wanted);
    assert_eq!(seen.len(), 1, "one forward pass");
    let layers: BTreeSet<_> = seen[0].again.keys().map(|site| site.layer).collect();
    layers.into_iter().collect()
}

/// Of three layers, those below the lowest requested one have a forward pass only.
#[test]
fn nothing_below_the_lowest_is_differentiated() {
    assert_eq!(again(|_| true), [0, 1, 2]);
    assert_eq!(again(|it| it.part == Part::Embedding), [0, 1, 2]);
    assert_eq!(again(|it| it.layer == Some(1)), [1, 2]);
    assert_eq!(again(|it| it.layer == Some(2) && it.part == Part::Mlp), [2]);
    assert_eq!(again(|it| it.layer == Some(2) || it.part == Part::Head), [2]);
    assert_eq!(again(|it| it.part == Part::Head), [0usize; 0]);
    assert_eq!(again(|it| it.layer.is_none() && it.part == Part::Norm), [0usize; 0]);
    // If everything is kept, nothing is computed again.
    assert!(passes(Recompute::None, |it| it.layer == Some(1))[0].again.is_empty());
}

/// A step lists the trained parameters with their parts, with and without an adapter.
#[test]
fn a_step_lists_its_parameters() {
    let adapter = Trainable::Lora(Lora { rank: 2, ..Lora::default() });
    for (trainable, expected) in [(&Trainable::Full, 15), (&adapter, 24)] {
        let backbone = toy().with_trainable(trainable).expect("its own layers");
        let stream = vxf_core::stream::Stream::of_batches(batches(&toy(), 1, "main"));
        let defense = defense_of(move |step| {
            let all = step.parameters().to_vec();
            assert_eq!(all.len(), expected);
            for parameter in &all {
                let layer = parameter.name.strip_prefix("layers.").map(|rest| &rest[..1]);
                let found = parameter.layer.map(|layer| layer.to_string());
                assert_eq!(layer, found.as_deref(), "{}", parameter.name);
                let part = match parameter.module() {
                    module if module.contains(".mixer.") => Part::Attention,
                    module if module.contains(".mlp.") => Part::Mlp,
                    "embedding" => Part::Embedding,
                    "norm" => Part::Norm,
                    _ => Part::Head,
                };
                assert_eq!(parameter.part, part, "{}", parameter.name);
            }
            let second: Wanted = |it| it.layer == Some(1);
            let part = step.on_main().of(&second).gradients()?;
            let names: BTreeSet<_> = part.names().map(str::to_owned).collect();
            let wanted = all.iter().filter(|it| second(it)).map(|it| it.name.clone());
            assert_eq!(names, wanted.collect());
            Ok(part)
        });
        let start = weights(&*backbone, 8).expect("weights");
        let stage =
            training(&*backbone, &start, vec![("main", stream)], defense, Box::new(Nothing));
        let mut stage = stage.expect("a stage");
        stage.step().expect("a step");
        for (name, weight) in stage.weights.iter() {
            let one = |of: &vxf_core::Params| {
                let tensor = of.get(name).expect("it is there").clone();
                vxf_core::Params::from_iter([(name.to_owned(), tensor)])
            };
            let moved = first_difference(&one(&start), &one(&stage.weights)).expect("numbers");
            assert_eq!(moved.is_some(), name.contains("layers.1."), "{name} {weight:?}");
        }
    }
}

/// A subset works together with perturbations, objectives, whole steps and other streams.
#[test]
fn a_subset_of_any_gradient() {
    let shape = ToyShape { layers: 3, dropout: 0.3, ..ToyShape::default() };
    let toy = Toy::new(&shape, DType::F64, 21).expect("a toy");
    let stream = |name| vxf_core::stream::Stream::of_batches(batches(&toy, 4, name));
    let streams = vec![("main", stream("main")), ("other", stream("other"))];
    let defense = defense_of(|step| {
        let change = step.weights().map(|weight| Ok((weight * 0.1)?))?;
        let wanted: Wanted = |it| it.layer == Some(1) || it.part == Part::Head;
        let kept: BTreeSet<_> =
            step.parameters().iter().filter(|it| wanted(it)).map(|it| it.name.clone()).collect();
        for stream in ["main", "other"] {
            for whole in [false, true] {
                let mut gradient = |subset: bool| {
                    let query = step.on(stream).perturbed(&Perturbation::Weights(change.clone()));
                    let query = if whole { query.whole() } else { query };
                    if subset { query.of(&wanted).gradients() } else { query.gradients() }
                };
                let all = gradient(false)?.into_iter().filter(|(name, _)| kept.contains(name));
                let (all, part) = (all.collect(), gradient(true)?);
                assert_eq!(first_difference(&all, &part)?, None, "{stream}, {whole}");
            }
        }
        step.gradients(&Perturbation::None)
    });
    let start = weights(&toy, 8).expect("weights");
    let stage = training(&toy, &start, streams, defense, Box::new(Nothing));
    let mut stage = stage.expect("a stage");
    stage.session.accumulation = 2;
    stage.step().expect("a step");
}

#[test]
fn verbs_without_a_gradient_of_weights_refuse_a_subset() {
    let toy = toy();
    let stream = vxf_core::stream::Stream::of_batches(batches(&toy, 1, "main"));
    let defense = defense_of(|step| {
        let all: Wanted = |_| true;
        let site = [Site::EMBEDDING];
        let refused = [
            ("`loss`", step.on_main().of(&all).loss().map(drop)),
            ("`logits`", step.on_main().of(&all).logits().map(drop)),
            ("`hidden`", step.on_main().of(&all).hidden(&site).map(drop)),
            ("`site_gradients`", step.on_main().of(&all).site_gradients(&site).map(drop)),
            ("`of` selects none of the 15", step.on_main().of(&|_| false).gradients().map(drop)),
        ];
        for (verb, refused) in refused {
            let error = refused.expect_err(verb).to_string();
            assert!(error.contains(verb), "{error}");
        }
        step.gradients(&Perturbation::None)
    });
    let start = weights(&toy, 8).expect("weights");
    let stage = training(&toy, &start, vec![("main", stream)], defense, Box::new(Nothing));
    stage.expect("a stage").step().expect("a step");
}
