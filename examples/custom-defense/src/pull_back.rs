//! Moves the trained weights part of the way back to the aligned model's, without training.

use vxf_core::numeric::scalar;
use vxf_core::prelude::*;

vxf_core::config! {
    /// Settings of the post-tuning method `pull-back`.
    pub struct PullBackConfig {
        /// Share of the way back to the aligned weights: 0 changes nothing, 1 goes all the way.
        pub share: f64 = 0.5,
    }
}

/// `W <- W + share * (W_aligned - W)` for each number that alignment changed.
///
/// Numbers that alignment did not change keep what the user's fine-tuning taught. References have no
/// biases and no adapters, so those stay as they are. The figure `pulled_back` is the share of the other
/// numbers that were moved; it is 0 if an adapter is trained.
pub struct PullBack {
    share: f64,
}

impl Defense for PullBack {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let (base, aligned) =
            (step.reference(Reference::Base)?, step.reference(Reference::Aligned)?);
        let (mut moved, mut all) = (0.0, 0);
        for parameter in step.parameters() {
            let Some(module) = parameter.name.strip_suffix(".weight") else { continue };
            let name = parameter.name.as_str();
            let Some(weight) = weights.get(name).map(|weight| weight.detach()) else { continue };
            let (base, aligned) = (base.weight(module)?, aligned.weight(module)?);
            let changed = aligned.ne(&base)?.to_dtype(weight.dtype())?;
            moved += scalar(&changed.sum_all()?)?;
            all += changed.elem_count();
            let back = ((aligned - &weight)? * changed)?;
            weights.insert(name, (weight + (back * self.share)?)?);
        }
        step.record("pulled_back", moved / all.max(1) as f64)?;
        Ok(weights)
    }
}

#[typetag::serde(name = "pull-back")]
impl DefenseConfig for PullBackConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = (0.0..=1.0).contains(&self.share);
        ConfigError::unless(holds, "share", "must be between 0 and 1", self.share)
    }

    fn needs(&self) -> Needs {
        Needs::none().reference(Reference::Base).reference(Reference::Aligned)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(PullBack { share: self.share }))
    }
}

vxf_core::register! {
    defense "pull-back" => PullBackConfig,
    summary: "A share of the way back to the aligned weights",
    paper: "none: an example",
    stages: [PostTuning],
}
