//! The defence `{{project-name}}`: down the stage's own gradient, up that of harmful samples.
//!
//! The whole method is in this file: settings, algorithm, registration. Replace it step by step by yours; the
//! laws in `tests/laws.rs` say when something is wrong.

use vxf_core::prelude::*;

vxf_core::config! {
    /// Settings of the defence `{{project-name}}`.
    pub struct MethodConfig {
        /// Weight of the harmful gradient that is subtracted; 0 is plain fine-tuning.
        pub share: f64 = 0.1,
        /// Harmful samples in a batch.
        pub batch_size: usize = 4,
    }
}

/// `g = grad J_main - share * grad J_harmful`.
pub struct Method {
    share: f64,
}

impl Defense for Method {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let toward = step.gradients(&perturbation)?;
        let harmful = step.on("harmful").gradients()?;
        toward.add_scaled(&harmful, -self.share)
    }
}

#[typetag::serde(name = "{{project-name}}")]
impl DefenseConfig for MethodConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let holds = self.share.is_finite() && self.share >= 0.0;
        ConfigError::unless(holds, "share", "must be finite and at least 0", self.share)?;
        let holds = self.batch_size > 0;
        ConfigError::unless(holds, "batch_size", "must be at least 1", self.batch_size)
    }

    // What it reads besides the stage's own samples. A recipe whose data lacks it is rejected before a run.
    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    // Forward and backward passes of a step, for the estimate of `vxf validate`.
    fn passes(&self) -> f64 {
        2.0
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Method { share: self.share }))
    }
}

vxf_core::register! {
    defense "{{project-name}}" => MethodConfig,
    summary: "Down the stage's own gradient, up that of harmful samples",
    paper: "none: a template",
    stages: [Alignment],
}
