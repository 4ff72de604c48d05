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
mod post_tuning;
mod sharpness;
mod subset;
mod taking_turns;
mod thawed;

use candle_core::DType;
use vxf_core::minmax::Training;
use vxf_core::stream::Stream;
use vxf_core::{Batch, Defense, Key, Perturber};
use vxf_testkit::training::{self, training};
use vxf_testkit::{Toy, ToyShape};

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
