//! Whether a stage did what it was run for: it moved its weights, and an attack learnt what it was
//! given.
//!
//! A table of a defence that withstood an attack which never took place looks like a triumph. So the
//! user's stage is held to its own training loss: the mean over its first epoch against that over
//! its last or, of one epoch, the first tenth of its steps against the last. A loss that did not
//! fall is told of beside the table, since a good defence may be what kept it up. Where plain
//! fine-tuning, which nothing defends, shows the same under every seed, the attack is at fault, and
//! that is an error.

use serde::{Deserialize, Serialize};
use vxf_core::numeric::sum_of_squares;
use vxf_core::{Params, Stage};

use crate::plan::Plan;
use crate::record::Record;
use crate::settings::TrainingSettings;
use crate::{Error, Result};

/// Steps of a single epoch below which tenths of it say nothing.
const FEWEST: u64 = 20;

/// The training loss of a stage, at its beginning and at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingLoss {
    /// Mean over the first steps.
    pub first: f64,
    /// Mean over as many last steps.
    pub last: f64,
    /// How many steps that is: an epoch, or a tenth of one.
    pub steps: u64,
}

impl TrainingLoss {
    /// Of a stage of `total` steps in `epochs` epochs, from its steps (counted from 1) and their
    /// losses; nothing where there are too few steps to tell.
    pub fn of(
        losses: impl IntoIterator<Item = (u64, f64)>,
        total: u64,
        epochs: u64,
    ) -> Option<Self> {
        let steps = match epochs {
            2.. => total / epochs,
            _ if total >= FEWEST => total / 10,
            _ => 0,
        };
        if steps == 0 {
            return None;
        }
        let (mut first, mut last) = (Mean::default(), Mean::default());
        for (step, loss) in losses {
            if step <= steps {
                first.add(loss);
            }
            if step > total - steps {
                last.add(loss);
            }
        }
        Some(Self { first: first.value()?, last: last.value()?, steps })
    }

    /// Whether training lowered it.
    pub fn fell(&self) -> bool {
        self.last < self.first
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// The training loss of the user's stage, from its steps and their losses; other stages are not held
/// to theirs, as some defences raise it on purpose.
pub(crate) fn of_attack(
    stage: Stage,
    settings: &TrainingSettings,
    total: u64,
    losses: impl IntoIterator<Item = (u64, f64)>,
) -> Option<TrainingLoss> {
    let attacks = stage == Stage::FineTuning;
    attacks.then(|| TrainingLoss::of(losses, total, settings.epochs)).flatten()
}

/// Whether a stage of `steps` steps that was to move weights did; `rate` is the highest learning rate
/// that it had, which warm-up may keep at zero in a very short one.
///
/// # Errors
/// When every weight is what it was before.
pub(crate) fn moved(start: &Params, weights: &Params, rate: f64, steps: u64) -> Result<()> {
    if steps == 0 || rate <= 0.0 {
        return Ok(());
    }
    for (name, weight) in weights.iter() {
        let same = match start.get(name) {
            Some(before) => sum_of_squares(&(weight.detach() - before.detach())?)? == 0.0,
            None => false,
        };
        // The first tensor that moved is enough: this costs no pass over a model.
        if !same {
            return Ok(());
        }
    }
    Err(Error::Unmoved { rate, steps })
}

/// What is to be told of attacks that did not learn, cell by cell.
pub fn doubts(records: &[Record]) -> Vec<String> {
    let doubtful = records.iter().filter_map(|record| Some((record, unlearnt(record)?)));
    doubtful
        .map(|(record, TrainingLoss { first, last, steps })| {
            format!(
                "{}: the user's training did not lower its own loss, {first:.4} over its first \
                 {steps} steps and {last:.4} over its last",
                record.cell()
            )
        })
        .collect()
}

fn unlearnt(record: &Record) -> Option<TrainingLoss> {
    record.training_loss.filter(|loss| !loss.fell())
}

/// Whether the attacks of an experiment can be believed; with `strict`, none may be in doubt.
///
/// # Errors
/// When one is in doubt and `strict` is set, or when plain fine-tuning did not learn at some ratio
/// under any seed.
pub fn verdict(plan: &Plan, records: &[Record], strict: bool) -> Result<()> {
    if let (true, Some(first)) = (strict, doubts(records).into_iter().next()) {
        return Err(Error::Doubtful { problem: first, reason: "and `--strict` was asked for" });
    }
    let Some(control) = &plan.baseline else { return Ok(()) };
    for &ratio in &plan.ratios {
        let here = |record: &&Record| record.ratio == Some(ratio) && record.label == *control;
        let judged: Vec<_> =
            records.iter().filter(here).filter_map(|record| record.training_loss).collect();
        if !judged.is_empty() && judged.iter().all(|loss| !loss.fell()) {
            let problem = format!(
                "{control} p={ratio}: the user's training did not lower its own loss under any of \
                 {} seeds",
                judged.len()
            );
            let reason = "and nothing defends that model: the attack is too weak to say anything \
                          of a defence";
            return Err(Error::Doubtful { problem, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{Device, Tensor};
    use serde_json::json;
    use vxf_builtins as _;
    use vxf_core::Trainable;

    use super::*;
    use crate::layer::Layer;
    use crate::resolve;

    fn of(losses: &[f64], epochs: u64) -> Option<TrainingLoss> {
        TrainingLoss::of((1..).zip(losses.iter().copied()), losses.len() as u64, epochs)
    }

    #[test]
    fn epochs_are_compared_or_tenths() {
        let two = of(&[1.0, 3.0, 2.0, 1.0], 2).expect("two epochs");
        assert_eq!(two, TrainingLoss { first: 2.0, last: 1.5, steps: 2 });
        assert!(two.fell());
        // The first and the last step alone would say the opposite.
        let mut one = vec![5.0; 40];
        one[..4].copy_from_slice(&[1.0, 9.0, 9.0, 9.0]);
        one[36..].copy_from_slice(&[2.0, 2.0, 2.0, 2.0]);
        let tenths = of(&one, 1).expect("40 steps");
        assert_eq!(tenths, TrainingLoss { first: 7.0, last: 2.0, steps: 4 });
        assert!(!of(&[1.0, 1.0], 2).expect("two epochs").fell(), "as high is not lower");
        assert_eq!(of(&[1.0; 19], 1), None, "too few to tell");
        assert_eq!(of(&[1.0; 2], 3), None, "fewer steps than epochs");
        assert_eq!(of(&[], 1), None);
    }

    #[test]
    fn weights_that_stayed_are_an_error() -> Result<()> {
        let weights = |value: f32| -> Result<Params> {
            let tensor = |value: f32| Tensor::new(&[value, 2.0], &Device::Cpu);
            let all = [("a".to_owned(), tensor(1.0)?), ("b".to_owned(), tensor(value)?)];
            Ok(all.into_iter().collect())
        };
        let (start, nudged) = (weights(1.0)?, weights(1.0 + f32::EPSILON)?);
        let error = moved(&start, &weights(1.0)?, 1e-3, 7).expect_err("nothing moved");
        let error = error.to_string();
        assert!(error.contains("7 steps") && error.contains("0.001"), "{error}");
        moved(&start, &nudged, 1e-3, 7)?;
        moved(&start, &weights(1.0)?, 1e-3, 0)?;
        moved(&start, &weights(1.0)?, 0.0, 7)
    }

    fn record(label: &str, seed: u64, loss: Option<(f64, f64)>) -> Record {
        let training_loss = loss.map(|(first, last)| TrainingLoss { first, last, steps: 5 });
        Record {
            schema_version: 1,
            label: label.to_owned(),
            stage: Stage::FineTuning,
            ratio: Some(0.2),
            seed,
            defense: json!({}),
            perturber: json!({}),
            steps: 10,
            samples: 1,
            truncated: 0,
            dropped: 0,
            seconds: 0.0,
            trainable: Trainable::Full,
            below: None,
            continues: false,
            training_loss,
            measurements: Vec::new(),
            measured: BTreeMap::new(),
            failed: BTreeMap::new(),
            answers: None,
        }
    }

    #[test]
    fn a_defence_may_hold_the_loss_up_and_the_control_may_not() -> Result<()> {
        let plan = Plan::of(&resolve::resolve(Layer::new())?)?;
        let (fell, rose) = (Some((2.0, 1.0)), Some((1.0, 1.5)));
        let defended = [record("vaccine", 1, rose), record("sft", 1, fell)];
        assert_eq!(doubts(&defended).len(), 1);
        let told = &doubts(&defended)[0];
        assert!(told.contains("vaccine p=0.2, seed 1") && told.contains("1.5000"), "{told}");
        verdict(&plan, &defended, false)?;
        let error = verdict(&plan, &defended, true).expect_err("strict").to_string();
        assert!(error.contains("vaccine") && error.contains("--strict"), "{error}");

        // One seed of the control may be bad luck; all of them are the attack's own fault.
        let one = [record("sft", 1, rose), record("sft", 2, fell), record("sft", 3, None)];
        verdict(&plan, &one, false)?;
        let all = [record("sft", 1, rose), record("sft", 2, rose), record("sft", 3, None)];
        let error = verdict(&plan, &all, false).expect_err("no attack").to_string();
        assert!(error.contains("sft p=0.2") && error.contains("any of 2 seeds"), "{error}");
        // What could not be told says nothing.
        verdict(&plan, &[record("sft", 1, None)], true)
    }
}
