//! The laws of inner players hold for the two simplest ones.

use candle_core::DType;
use vxf_core::numeric::sum_of_squares;
use vxf_core::{Hidden, Perturbation, Perturber, Result, Step};
use vxf_testkit::perturber::Asked;
use vxf_testkit::training::Nothing;

mod nothing {
    use super::*;

    vxf_testkit::perturber_laws!(|_: &Asked| Box::new(Nothing) as Box<dyn Perturber>);

    #[test]
    fn equals_the_large_batch() {
        use vxf_testkit::{Scope, perturber::accumulation};
        accumulation::equals_the_large_batch(|_| Box::new(Nothing), &Scope::ALL);
    }
}
