//! The verbs of a step support methods unlike Vaccine: sharpness-aware minimisation (perturbed
//! weights), two streams in turn (snapshots, state, a proximal term) and a penalty on the hidden
//! embeddings of several layers. Each is compared for several steps with a plain program that
//! shares nothing with the loop. Further tests check the verbs: they use or reject settings, draw
//! the right dropout masks, and distinguish micro-batches from whole steps.

mod answers;
mod chosen;
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
