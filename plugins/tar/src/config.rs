//! Settings of TAR.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Tar;

vxf_core::config! {
    /// Settings of the defence `tar`.
    pub struct TarConfig {
        /// Steps of each simulated attack.
        pub inner_steps: u64 = 64,
        /// Steps of the attack between two gradients of tamper resistance.
        pub every: u64 = 4,
        /// Growth of the weight of later points: `exp(decay (i - inner_steps))` after i steps.
        pub decay: f64 = 0.0625,
        /// Learning rates of simulated attackers; each attack draws one.
        pub rates: Vec<f64> = vec![2e-6, 2e-5, 4e-5],
        /// Weight of tamper resistance.
        pub lambda_tr: f64 = 4.0,
        /// Weight of the retain term.
        pub lambda_retain: f64 = 1.0,
        /// Weight, within the retain term, of the distance of hidden embeddings from the start model's; 0
        /// leaves it out.
        pub representation: f64 = 1.0,
        /// Samples in a harmful batch.
        pub batch_size: usize = 8,
    }
}

#[typetag::serde(name = "tar")]
impl DefenseConfig for TarConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self { inner_steps, every, rates, batch_size, .. } = self;
        ConfigError::positive("inner_steps", *inner_steps)?;
        let known = (1..=*inner_steps).contains(every);
        let rule = "must lie between 1 and `inner_steps`";
        ConfigError::unless(known, "every", rule, every)?;
        let range = !rates.is_empty() && rates.iter().all(|rate| rate.is_finite() && *rate > 0.0);
        ConfigError::unless(range, "rates", "must be positive numbers", json!(rates))?;
        ConfigError::positive("batch_size", *batch_size)?;
        for (key, value) in [
            ("decay", self.decay),
            ("lambda_tr", self.lambda_tr),
            ("lambda_retain", self.lambda_retain),
            ("representation", self.representation),
        ] {
            ConfigError::not_negative(key, value)?;
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").batches_of(self.batch_size)
    }

    fn passes(&self) -> f64 {
        // The attack, its points, the retain term, and a third of a pass for the start model.
        let Self { inner_steps, every, .. } = *self;
        inner_steps as f64 + (inner_steps / every) as f64 + 4.0 / 3.0
    }

    fn copies(&self) -> f64 {
        // The start, the attacked weights with two moments, a gradient and the sum.
        6.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda_tr=0.5..8:log", "lambda_retain=0.25..4:log", "representation=0..2"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        let own = [("inner_steps", json!(8)), ("rates", json!([5e-5, 1e-4, 2e-4]))];
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Tar::new(self.clone())))
    }
}
