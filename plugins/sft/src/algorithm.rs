//! The baselines.

use vxf_core::prelude::*;

/// No alignment: the stage does not train.
pub struct NonAligned;

impl Defense for NonAligned {}

/// Plain supervised fine-tuning: the min-max step with the perturber `none`.
pub struct Sft;

impl Defense for Sft {}

/// The perturber that adds nothing.
pub struct NoPerturbation;

impl Perturber for NoPerturbation {
    fn perturb(&mut self, _step: &mut Step<'_>) -> Result<Perturbation> {
        Ok(Perturbation::None)
    }
}
