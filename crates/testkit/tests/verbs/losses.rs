//! The recorded `loss` of a step.

use std::sync::Arc;

use candle_core::Tensor;
use vxf_core::batch::IGNORED;
use vxf_core::engine::Objective;
use vxf_core::loss::per_sample;
use vxf_core::step::Role;
use vxf_core::{Batch, Gradients, Perturbation, Result, Step};
use vxf_testkit::numbers::relative_distance;
use vxf_testkit::training::{Nothing, defense_of, defense_per_step};

use crate::{batches, stage, toy};

type Act = fn(&mut Step<'_>) -> Result<Gradients>;

fn observed(act: Act, micro_batches: usize, per_step: bool) -> Result<f64> {
    let toy = toy();
    let streams = ["main", "other"].map(|name| (name, batches(&toy, 4, name)));
    let defense = if per_step { defense_per_step(act) } else { defense_of(act) };
    let mut stage = stage(&toy, streams.into_iter().collect(), defense, Box::new(Nothing));
    stage.session.accumulation = micro_batches;
    stage.step()?.loss()
}

/// Each of these gives the same figure, whatever the number of micro-batches.
#[test]
fn every_verb_records_the_main_loss() {
    let verbs: [Act; 8] = [
        |step| step.gradients(&Perturbation::None),
        |step| step.on_main().gradients(),
        |step| step.on("main").gradients(),
        |step| Ok(step.on_main().loss_and_gradients()?.1),
        |step| step.on_main().whole().gradients(),
        // Recorded by hand as well.
        |step| {
            let (loss, gradients) = step.on_main().loss_and_gradients()?;
            step.record("loss", loss)?;
            Ok(gradients)
        },
        // Two outer gradients, of which the last counts; probes and other streams do not.
        |step| {
            let change = step.weights().map(|weight| Ok((weight * 0.1)?))?;
            step.on_main().perturbed(&Perturbation::Weights(change)).gradients()?;
            let gradients = step.on_main().gradients()?;
            step.on_main().role(Role::Probe).gradients()?;
            step.on("other").gradients()?;
            step.on_main().loss()?;
            Ok(gradients)
        },
        // An earlier gradient at other weights.
        |step| {
            let other = step.weights().scale(0.5)?;
            step.with_weights(&other, |step| step.on_main().gradients())?;
            step.on_main().gradients()
        },
    ];
    for micro_batches in [1, 2, 3] {
        let expected = observed(verbs[0], micro_batches, false).expect("a loss");
        for (number, verb) in verbs.into_iter().enumerate() {
            for per_step in [false, true] {
                let loss = observed(verb, micro_batches, per_step).expect("a loss");
                let off = (loss - expected).abs();
                assert!(off < 1e-12, "verb {number}, {micro_batches}, {per_step}: off by {off}");
            }
        }
    }
}

/// A recorded penalty is added to the main stream's loss.
#[test]
fn a_penalty_is_added() {
    for (micro_batches, per_step) in [(1, false), (3, false), (3, true)] {
        let plain = observed(|step| step.on_main().gradients(), micro_batches, per_step);
        let with = observed(
            |step| {
                step.record("loss", 0.25)?;
                let gradients = step.gradients(&Perturbation::None)?;
                step.record("loss", 0.5)?;
                Ok(gradients)
            },
            micro_batches,
            per_step,
        );
        let added = with.expect("a loss") - plain.expect("a loss");
        assert!((added - 0.75).abs() < 1e-12, "{added}");
    }
}

#[test]
fn a_step_on_another_stream_must_record_its_own_loss() {
    let recorded: Act = |step| {
        let (loss, gradients) = step.on("other").loss_and_gradients()?;
        step.record("loss", loss)?;
        Ok(gradients)
    };
    assert!(observed(recorded, 1, false).expect("a loss") > 0.0);
    let error = observed(|step| step.on("other").gradients(), 1, false).expect_err("no loss");
    let message = error.to_string();
    assert!(message.contains("step 0 has no `loss`"), "{message}");
    assert!(message.contains("step.record(\"loss\", ..)"), "{message}");
}

/// A loss over the samples' losses is the same one over logits, in both layouts, beside other terms, and where a
/// sample has no label.
#[test]
fn losses_of_samples_need_no_logits() {
    // A weight for each sample, and something that is not linear.
    fn weighted(own: &Tensor, _: &Batch) -> Result<Tensor> {
        let weights = Tensor::arange(1f64, own.dim(0)? as f64 + 1.0, own.device())?;
        Ok((own.sqr()? * weights)?.sum_all()?)
    }
    fn of_logits(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        weighted(&per_sample(logits, batch)?, batch)
    }
    fn compare(step: &mut Step<'_>) -> Result<Gradients> {
        let whole = step.batch("other")?;
        let mut quiet = (*whole).clone();
        let columns = quiet.tokens.dim(1)?;
        quiet.targets[columns..2 * columns].fill(IGNORED);
        for (batch, cross_entropy) in [(whole, 0.0), (Arc::new(quiet), 0.5)] {
            for rectangle in [false, true] {
                let mut found = Vec::new();
                for objective in [
                    Objective { samples: Some(&weighted), ..Objective::default() },
                    Objective { logits: Some(&of_logits), ..Objective::default() },
                ] {
                    let query = step.on("other").reading(&batch).role(Role::Evaluation);
                    let query = if rectangle { query.rectangle() } else { query };
                    let query = query.minimising(Objective { cross_entropy, ..objective });
                    let (loss, gradients) = query.loss_and_gradients()?;
                    found.push((loss.value()?, gradients));
                }
                let ((a, own), (b, expected)) = (&found[0], &found[1]);
                assert!((a - b).abs() < 1e-12 * b.abs(), "{a} {b}");
                let off = relative_distance(own, expected)?;
                assert!(off < 1e-12, "the gradients are off by {off}");
            }
        }
        step.gradients(&Perturbation::None)
    }
    let toy = toy();
    let streams = ["main", "other"].map(|name| (name, batches(&toy, 4, name)));
    let defense = defense_of(compare);
    let mut stage = stage(&toy, streams.into_iter().collect(), defense, Box::new(Nothing));
    stage.step().expect("the same");
}
