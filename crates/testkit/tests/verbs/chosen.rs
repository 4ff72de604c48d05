//! Queries on chosen samples and on batches of a method's own.

use std::sync::Arc;

use vxf_core::{Error, Gradients, Result, Step};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::{Nothing, defense_of, defense_per_step};

use crate::{batches, stage, toy};

type Act = fn(&mut Step<'_>) -> Result<Gradients>;

/// The weights after two steps, and how far the streams have advanced.
fn trained(act: Act, per_step: bool) -> Result<(vxf_core::Params, u64, u64)> {
    let toy = toy();
    let streams = ["main", "other"].map(|name| (name, batches(&toy, 4, name)));
    let defense = if per_step { defense_per_step(act) } else { defense_of(act) };
    let mut stage = stage(&toy, streams.into_iter().collect(), defense, Box::new(Nothing));
    stage.step()?;
    stage.step()?;
    let at = stage.session.streams.positions();
    Ok((stage.weights, at["main"], at["other"]))
}

/// The samples of a batch, picked again, give the same gradient to the bit, in one micro-batch and in the
/// whole step; a stream that is only picked from stays where it is.
#[test]
fn picked_samples_are_the_batch_they_come_from() -> Result<()> {
    let own: Act = |step| step.on("other").gradients();
    let picked: Act = |step| {
        let samples: Vec<usize> = (0..3).map(|row| 3 * step.index() as usize + row).collect();
        let batch = step.pick("other", &samples)?;
        assert_eq!(batch.samples, samples);
        step.on("other").reading(&batch).gradients()
    };
    for per_step in [false, true] {
        let (one, _, advanced) = trained(own, per_step)?;
        let (other, _, stayed) = trained(picked, per_step)?;
        assert_eq!(first_difference(&one, &other)?, None);
        assert_eq!((advanced, stayed), (2, 0));
    }
    Ok(())
}

/// A batch of the method's own counts like a micro-batch of the main stream: it is not rescaled by the labels
/// of the stream that it is read on.
#[test]
fn a_batch_of_its_own_is_read_as_it_is() -> Result<()> {
    let toy = toy();
    let streams = ["main", "other"].map(|name| (name, batches(&toy, 4, name)));
    let act: Act = |step| {
        let harmful = step.batch("main")?;
        let pairs = Arc::new(harmful.with_answers_of(&*step.pick("other", &[4, 0, 7])?, 30)?);
        let (one, by_main) = step.on_main().reading(&pairs).loss_and_gradients()?;
        let (other, by_other) = step.on("other").reading(&pairs).loss_and_gradients()?;
        assert_eq!(one.value()?, other.value()?);
        assert_eq!(first_difference(&by_main, &by_other)?, None);
        Ok(by_main)
    };
    let mut stage = stage(&toy, streams.into_iter().collect(), defense_of(act), Box::new(Nothing));
    stage.session.accumulation = 2;
    stage.step().map(drop)
}

#[test]
fn a_sample_that_is_not_there_is_an_error() -> Result<()> {
    let act: Act = |step| {
        let missing = step.pick("other", &[11, 12]);
        assert!(matches!(missing, Err(Error::NoSample { index: 12, all: 12 })));
        assert!(matches!(step.pick("none", &[0]), Err(Error::UnknownStream { .. })));
        step.on_main().gradients()
    };
    trained(act, false).map(drop)
}
