//! What a step offers carries methods that are not Vaccine's shape: sharpness-aware minimisation
//! (weights perturbed), two streams taking turns (snapshots, state, a proximal term) and a penalty
//! on the hidden embeddings of several layers. Each is followed for several steps by a plain
//! program that shares nothing with the loop. The verbs themselves are held to their word: they heed
//! or refuse, draw the masks they should, and say what belongs to a micro-batch and what to a step.

mod answers;
mod feature_penalty;
mod losses;
mod masks;
mod per_step;
mod plain;
mod sharpness;
mod taking_turns;
mod thawed;

use candle_core::DType;
use vxf_core::minmax::Training;
use vxf_core::stream::Stream;
use vxf_core::{Batch, Defense, Key, Perturber, Result};
use vxf_testkit::training::{self, training};
use vxf_testkit::{Toy, ToyShape, numbers};

use plain::Weights;

fn toy() -> Toy {
    let shape = ToyShape { layers: 3, ..ToyShape::default() };
    Toy::new(&shape, DType::F64, 21).expect("a toy")
}

fn toy_weights() -> vxf_core::Params {
    training::weights(&toy(), 8).expect("weights")
}

fn batches(toy: &Toy, count: u64, name: &str) -> Vec<Batch> {
    training::batches(toy, count, &Key::root(5).child(name)).expect("batches")
}

fn stage<'a>(
    toy: &'a Toy,
    streams: Vec<(&str, Vec<Batch>)>,
    defense: Box<dyn Defense>,
    perturber: Box<dyn Perturber>,
) -> Training<'a> {
    let streams = streams.into_iter().map(|(name, batches)| (name, Stream::of_batches(batches)));
    let weights = training::weights(toy, 8).expect("weights");
    training(toy, &weights, streams.collect(), defense, perturber).expect("a stage")
}

/// Trains `steps` steps both ways and compares all weights after each.
///
/// Both compute in f64; the bound leaves room for sums in another order, which AdamW's division
/// by small second moments magnifies.
fn follow(
    mut stage: Training<'_>,
    steps: u64,
    mut gradient: impl FnMut(u64, &Weights) -> Result<Weights>,
) {
    let mut weights = plain::weights(&stage.weights);
    let mut optimizer = plain::AdamW::default();
    stage.prepare().expect("prepared");
    for step in 0..steps {
        stage.step().expect("a step");
        let gradient = gradient(step, &weights).expect("a gradient");
        optimizer.step(&mut weights, &gradient).expect("a step by hand");
        for (name, ours) in stage.weights.iter() {
            let ours = numbers::entries(ours).expect("numbers");
            let theirs = numbers::entries(&weights[name]).expect("numbers");
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() <= 1e-10, "`{name}` after step {step}: {a} {b}");
            }
        }
    }
}
