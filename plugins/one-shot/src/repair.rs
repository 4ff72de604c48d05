//! The steps of the repair.

use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::prelude::*;

use crate::config::OneShotConfig;

/// The stream of the samples.
pub(crate) const REPAIR: &str = "repair";

/// A few steps of AdamW without weight decay on the first samples of the alignment set.
pub struct OneShot {
    config: OneShotConfig,
}

impl OneShot {
    /// One-shot repair with these settings.
    pub fn new(config: OneShotConfig) -> Self {
        Self { config }
    }
}

impl Defense for OneShot {
    fn finish(&mut self, step: &mut Step<'_>, weights: Params) -> Result<Params> {
        let OneShotConfig { steps, rate, .. } = self.config;
        let mut repaired = weights.copy()?;
        let parameters = step.parameters().to_vec();
        let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, &parameters, &repaired)?;
        for index in 0..steps {
            let (loss, gradients) = step.with_weights(&repaired, |step| {
                step.on(REPAIR).role(Role::Evaluation).loss_and_gradients()
            })?;
            if index + 1 == steps {
                step.record("repair_loss", loss)?;
            }
            optimizer.step(&mut repaired, &gradients, 1.0, rate)?;
        }
        Ok(repaired)
    }
}
