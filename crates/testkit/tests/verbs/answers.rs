//! No verb answers wrongly in silence: it rejects unsupported settings, and its results do not
//! share storage with the model.

use candle_core::{Tensor, Var};
use vxf_core::engine::Objective;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::step::Role;
use vxf_core::{Hidden, Params, Perturbation, Result, Site, Step};
use vxf_testkit::numbers::{distance, entries, first_difference};
use vxf_testkit::training::{Nothing, defense_of};

use crate::{batches, stage, toy};
use vxf_testkit::plain;

/// Calls `act`, takes one step of plain fine-tuning, and returns the weights after it.
fn after(act: impl FnMut(&mut Step<'_>) -> Result<()> + Send + 'static) -> Params {
    let toy = toy();
    let streams =
        ["main", "harmful"].map(|name| (name, batches(&toy, 6, name))).into_iter().collect();
    let mut act = act;
    let defense = defense_of(move |step| {
        act(step)?;
        step.gradients(&Perturbation::None)
    });
    let mut stage = stage(&toy, streams, defense, Box::new(Nothing));
    stage.step().expect("a step");
    stage.weights
}

fn off(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(distance(&entries(a)?, &entries(b)?))
}

#[test]
fn logits_and_hidden_use_a_perturbation_of_weights() {
    after(|step| {
        let change = step.weights().map(|weight| Ok((weight.detach() * 0.3)?))?;
        let batch = step.batch("main")?;
        let moved = plain::plus(&plain::weights(step.weights())?, &plain::weights(&change)?, 1.0)?;
        let by_hand = plain::pass(&moved, &batch)?;
        // The plain computation works on the rectangle; only real positions are compared.
        let rows = batch.rows();
        let off = |a: &Tensor, b: &Tensor| off(a, &rows.packed(b)?);
        let at = Perturbation::Weights(change);
        assert!(off(&step.on("main").perturbed(&at).logits()?, &by_hand.logits)? < 1e-10);
        let site = Site::block_output(1);
        let hidden = step.on("main").perturbed(&at).hidden(&[site])?;
        assert!(off(&hidden[&site], &by_hand.blocks[1])? < 1e-10);
        assert!(off(&step.on("main").logits()?, &by_hand.logits)? > 0.1, "a change that shows");
        Ok(())
    });
}

#[test]
fn logits_and_hidden_use_a_perturbation_of_hidden_embeddings() {
    after(|step| {
        let below = Site::attention_output(0);
        let plain = step.on("main").hidden(&[below, Site::block_output(2)])?;
        let added = (plain[&below].ones_like()? * 0.7)?;
        let at = Perturbation::Hidden(Hidden::from([(below, added.clone())]));
        let moved = step.on("main").perturbed(&at).hidden(&[below, Site::block_output(2)])?;
        // At the site itself: the perturbed embedding.
        assert!(off(&moved[&below], &(&plain[&below] + &added)?)? < 1e-12);
        assert!(off(&moved[&Site::block_output(2)], &plain[&Site::block_output(2)])? > 0.1);
        // The logits belong to the loss at the perturbation.
        let batch = step.batch("main")?;
        let logits = step.on("main").perturbed(&at).logits()?;
        let loss = vxf_core::loss::cross_entropy(&logits, &batch.row_targets())?;
        let loss = loss.to_scalar::<f64>()?;
        assert!((loss - step.on("main").perturbed(&at).loss()?).abs() < 1e-12);
        let beyond = Perturbation::Hidden(Hidden::from([(Site::block_output(9), added)]));
        let error = step.on("main").perturbed(&beyond).logits().expect_err("no such layer");
        assert!(error.to_string().contains("block_output.9"), "{error}");
        Ok(())
    });
}

#[test]
fn forward_verbs_reject_an_objective() {
    after(|step| {
        let term = |logits: &Tensor, _: &vxf_core::Batch| Ok(logits.sum_all()?);
        let objective = Objective { logits: Some(&term), ..Objective::default() };
        let refused = [
            step.on("main").minimising(objective).logits().map(drop),
            step.on("main").minimising(objective).hidden(&[Site::EMBEDDING]).map(drop),
        ];
        for (refused, verb) in refused.into_iter().zip(["`logits`", "`hidden`"]) {
            let error = refused.expect_err("nothing to minimise").to_string();
            assert!(error.contains(verb) && error.contains("minimising"), "{error}");
        }
        Ok(())
    });
}

#[test]
fn other_weights_must_be_a_complete_set() {
    after(|step| {
        let own = step.on("main").role(Role::Evaluation).loss()?;
        let mut refused = |weights: &Params| {
            let error = step.with_weights(weights, |step| step.on("main").loss());
            error.expect_err("refused").to_string()
        };
        let message = refused(&Params::new());
        assert!(message.contains("`embedding.weight` and 14 others of 15"), "{message}");
        let all = crate::toy_weights();
        let mut some = all.clone().into_iter();
        some.next();
        let message = refused(&some.collect());
        assert!(message.contains("`embedding.weight` of 15 are missing"), "{message}");
        let mut more = all.clone();
        more.insert("stray", all.get("norm.weight").expect("a gain").clone());
        let message = refused(&more);
        assert!(message.contains("`stray` is not trained"), "{message}");
        let mut wide = all.clone();
        wide.insert("norm.weight", all.get("output.weight").expect("a table").clone());
        let message = refused(&wide);
        assert!(message.contains("`norm.weight` is [13, 8], the trained one [8]"), "{message}");
        assert_eq!(step.on("main").role(Role::Evaluation).loss()?, own);
        Ok(())
    });
}

/// A simulated run on a step's weights, by any way of copying, does not change the model.
#[test]
fn a_simulated_run_does_not_change_the_model() {
    let simulated = |own: fn(&Step<'_>) -> Result<Params>| {
        after(move |step| {
            let mut theta = own(step)?;
            let mut adam = AdamW::new(AdamWConfig::default(), &[], &theta)?;
            let before = step.on("harmful").loss()?;
            for _ in 0..3 {
                let gradients = step.with_weights(&theta, |step| step.on("harmful").gradients())?;
                adam.step(&mut theta, &gradients, 1.0, 0.05)?;
            }
            let here = step.with_weights(&theta, |step| step.on("harmful").loss())?;
            assert!(here < before - 0.1, "the simulated run learns: {before} {here}");
            assert_eq!(step.on("harmful").loss()?, before, "the model does not");
            Ok(())
        })
    };
    let undisturbed = after(|_| Ok(()));
    let ways: [fn(&Step<'_>) -> Result<Params>; 4] = [
        |step| step.weights().copy(),
        |step| Ok(step.weights().clone()),
        |step| Ok(step.weights().detach()),
        |step| step.weights().leaves(),
    ];
    for way in ways {
        let differs = first_difference(&undisturbed, &simulated(way)).expect("numbers");
        assert_eq!(differs, None);
    }
}

#[test]
fn weights_cannot_be_set_behind_the_loop() {
    let undisturbed = after(|_| Ok(()));
    let disturbed = after(|step| {
        for (_, weight) in step.weights().iter() {
            Var::from_tensor(weight)?.set(&weight.zeros_like()?)?;
        }
        Ok(())
    });
    assert_eq!(first_difference(&undisturbed, &disturbed).expect("numbers"), None);
}
