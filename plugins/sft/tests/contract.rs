//! Plain fine-tuning is indifferent to how a batch is cut. The laws of its kind are in `tests/laws.rs`.

use vxf_core::prelude::*;
use vxf_sft::NoPerturbation;
use vxf_testkit::Scope;
use vxf_testkit::perturber::{Asked, accumulation};

#[test]
fn micro_batches_are_the_large_batch() {
    accumulation::equals_the_large_batch(
        |_: &Asked| Box::new(NoPerturbation) as Box<dyn Perturber>,
        &Scope::ALL,
    );
}
