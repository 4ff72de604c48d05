//! A stage is resumed from weights, moments, positions and a step number alone.

use candle_core::DType;
use vxf_core::minmax::Training;
use vxf_core::schedule::{Decay, Schedule};
use vxf_core::{Key, Params, Result};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::{self, Nothing, Plain};
use vxf_testkit::{Toy, ToyShape};

fn begin(toy: &Toy) -> Result<Training<'_>> {
    let streams = vec![("user", training::samples(toy, 7, &Key::root(6)))];
    let weights = training::weights(toy, 1)?;
    let mut stage = training::training(toy, &weights, streams, Box::new(Plain), Box::new(Nothing))?;
    stage.schedule = Schedule { peak: 0.02, decay: Decay::Cosine, warmup: 3, total: 12 };
    stage.session.accumulation = 2;
    Ok(stage)
}

/// Stops within the warm-up and within an epoch, with dropout and accumulation.
#[test]
fn a_resumed_stage_ends_in_the_same_bits() -> Result<()> {
    let shape = ToyShape { dropout: 0.3, ..ToyShape::default() };
    for dtype in [DType::F32, DType::F64] {
        let toy = Toy::new(&shape, dtype, 9)?;
        let mut whole = begin(&toy)?;
        let steps: Vec<_> = (0..8).map(|_| whole.step()).collect::<Result<_>>()?;
        for stop in [1, 2, 5] {
            let mut first = begin(&toy)?;
            (0..stop).try_for_each(|_| first.step().map(drop))?;
            let mut second = begin(&toy)?;
            vxf_testkit::defense::resume(&mut second, first)?;
            for observed in &steps[stop..] {
                assert_eq!(&second.step()?, observed);
            }
            assert_eq!(first_difference(&whole.weights, &second.weights)?, None, "stop {stop}");
            let moments = (&whole.optimizer.second, &second.optimizer.second);
            assert_eq!(first_difference(moments.0, moments.1)?, None, "moments");
        }
    }
    Ok(())
}

/// Each part is needed: without it the stage continues differently.
#[test]
fn nothing_of_it_is_superfluous() -> Result<()> {
    let toy = Toy::new(&ToyShape { dropout: 0.3, ..ToyShape::default() }, DType::F64, 9)?;
    let mut whole = begin(&toy)?;
    (0..8).try_for_each(|_| whole.step().map(drop))?;
    type Loss = fn(&mut Training<'_>);
    let losses: [(&str, Loss); 5] = [
        ("first moments", |stage| zero(&mut stage.optimizer.first)),
        ("second moments", |stage| zero(&mut stage.optimizer.second)),
        ("the optimiser's step", |stage| stage.optimizer.steps = 0),
        ("positions", |stage| stage.session.streams.seek(&Default::default())),
        ("the step", |stage| stage.next = 0),
    ];
    for (what, lose) in losses {
        let mut first = begin(&toy)?;
        (0..4).try_for_each(|_| first.step().map(drop))?;
        let mut second = begin(&toy)?;
        vxf_testkit::defense::resume(&mut second, first)?;
        lose(&mut second);
        (0..4).try_for_each(|_| second.step().map(drop))?;
        let differs = first_difference(&whole.weights, &second.weights)?;
        assert!(differs.is_some(), "{what} made no difference");
    }
    Ok(())
}

fn zero(moments: &mut Params) {
    *moments = moments.zeros_like().expect("zeros");
}
