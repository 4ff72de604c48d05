//! The baselines keep the laws of their kinds.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_sft::NoPerturbation;
use vxf_testkit::perturber::{Asked, accumulation};
use vxf_testkit::{Scope, config_laws, defense_laws, perturber_laws};

fn made(_: &Asked) -> Box<dyn Perturber> {
    Box::new(NoPerturbation)
}

perturber_laws!(made);
config_laws!(perturber "none", json!({}));

mod sft {
    use super::*;

    defense_laws!("sft", json!({}));

    #[test]
    fn micro_batches_are_the_large_batch() {
        accumulation::equals_the_large_batch(made, &Scope::ALL);
    }
}

mod non_aligned {
    use super::*;

    defense_laws!("none", json!({}));
}
