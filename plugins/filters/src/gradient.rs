//! The filter by gradients.

use vxf_core::prelude::*;

use crate::config::GradientFilterConfig;
use crate::kept::{Kept, TOGETHER};

/// Leaves out the samples x with the lowest cosine between `grad l(x)` and the gradient of the alignment
/// loss, both at the weights before the user's training and without dropout.
pub struct GradientFilter {
    config: GradientFilterConfig,
    kept: Kept,
}

impl GradientFilter {
    /// The filter with these settings.
    pub fn new(config: GradientFilterConfig) -> Self {
        Self { config, kept: Kept::default() }
    }

    /// The gradient of the loss on samples of a stream, and its labelled tokens; none without any.
    fn gradient(
        step: &mut Step<'_>,
        stream: &str,
        samples: &[usize],
    ) -> Result<Option<(Gradients, usize)>> {
        let batch = step.pick(stream, samples)?;
        match batch.labelled() {
            0 => Ok(None),
            labelled => {
                let query = step.on(stream).reading(&batch).role(Role::Evaluation);
                Ok(Some((query.loss_and_gradients()?.1, labelled)))
            }
        }
    }

    /// The gradient of the mean alignment loss, up to a factor.
    fn alignment(&self, step: &mut Step<'_>) -> Result<Gradients> {
        let count = self.config.samples.min(step.samples_of("alignment")?);
        let samples: Vec<usize> = (0..count).collect();
        let mut sum = Gradients::new();
        for samples in samples.chunks(TOGETHER) {
            if let Some((gradients, labelled)) = Self::gradient(step, "alignment", samples)? {
                sum.accumulate_all(gradients.scale(labelled as f64)?)?;
            }
        }
        Ok(sum)
    }
}

impl Defense for GradientFilter {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        let safe = self.alignment(step)?;
        let length = safe.norm()?;
        step.require_finite("the norm of the alignment gradient", "", &length.into())?;
        if length == 0.0 {
            let flat =
                "the gradient of the alignment loss is zero: no direction to compare samples with";
            return Err(Error::Unsuitable(flat.to_owned()));
        }
        let main = step.main();
        let mut scores = Vec::new();
        for sample in 0..step.samples_of(&main)? {
            let own = Self::gradient(step, &main, &[sample])?;
            let cosine =
                own.map(|(own, _)| Ok::<_, Error>(own.dot(&safe)? / (own.norm()? * length)));
            // A gradient of zero has no direction.
            scores.push(cosine.transpose()?.filter(|cosine| cosine.is_finite()));
        }
        self.kept.choose(&scores, self.config.share, self.config.below);
        Ok(())
    }

    fn keeps(&self) -> Option<Vec<usize>> {
        self.kept.indices()
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.kept.record(step)
    }

    fn state(&self) -> Result<State> {
        Ok(self.kept.state())
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.kept.restore(state)
    }
}
