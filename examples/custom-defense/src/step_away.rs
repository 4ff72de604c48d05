//! Descends on the stage's own samples and ascends on harmful ones.

use vxf_core::prelude::*;

vxf_core::config! {
    /// Settings of the defence `step-away`.
    pub struct StepAwayConfig {
        /// Weight of the harmful gradient that is subtracted; 0 is plain fine-tuning.
        pub share: f64 = 0.1,
        /// Harmful samples in a batch.
        pub batch_size: usize = 4,
    }
}

/// `g = grad J_main - share * grad J_harmful`.
pub struct StepAway {
    share: f64,
}

impl Defense for StepAway {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let toward = step.gradients(&perturbation)?;
        let harmful = step.on("harmful").gradients()?;
        toward.add_scaled(&harmful, -self.share)
    }
}

#[typetag::serde(name = "step-away")]
impl DefenseConfig for StepAwayConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = self.share.is_finite() && self.share >= 0.0;
        ConfigError::unless(holds, "share", "must be finite and at least 0", self.share)?;
        let holds = self.batch_size > 0;
        ConfigError::unless(holds, "batch_size", "must be at least 1", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(StepAway { share: self.share }))
    }
}

vxf_core::register! {
    defense "step-away" => StepAwayConfig,
    summary: "Down the stage's own gradient, up that of harmful samples",
    paper: "none: an example",
    stages: [Alignment, PostTuning],
}
