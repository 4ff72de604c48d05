//! Descends along a blend of the clean and the perturbed gradient.
//!
//! The whole method is in this file: settings, algorithm, registration.

use vxf_core::prelude::*;

vxf_core::config! {
    /// Settings of the defence `blend`.
    pub struct BlendConfig {
        /// Share of the perturbed gradient; 0 is plain fine-tuning, 1 is Vaccine.
        pub share: f64 = 0.5,
    }
}

/// `g = (1 - share) grad J(0) + share grad J(eps)`, with eps from the chosen perturber.
pub struct Blend {
    share: f64,
}

impl Defense for Blend {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let clean = step.on_main().gradients()?;
        let perturbed = step.gradients(&perturbation)?;
        clean.scale(1.0 - self.share)?.add_scaled(&perturbed, self.share)
    }
}

#[typetag::serde(name = "blend")]
impl DefenseConfig for BlendConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = (0.0..=1.0).contains(&self.share);
        ConfigError::unless(holds, "share", "must be between 0 and 1", self.share)
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Blend { share: self.share }))
    }

    fn perturber(&self) -> &'static str {
        "vaccine"
    }
}

vxf_core::register! {
    defense "blend" => BlendConfig,
    summary: "A blend of the clean and the perturbed gradient",
    paper: "none: an example",
    stages: [Alignment],
}
