//! Settings of PACT.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Pact;

/// The stream of the samples that decide which tokens are held.
pub(crate) const SAFETY: &str = "safety";

vxf_core::config! {
    /// Settings of the defence `pact`.
    pub struct PactConfig {
        /// Weight lambda of the divergence.
        pub lambda: f64 = 1.0,
        /// Temperature T of both distributions; the divergence is multiplied by its square.
        pub temperature: f64 = 2.0,
        /// The number of safety tokens.
        pub tokens: usize = 50,
        /// Samples of the alignment set that decide which tokens these are, the first ones.
        pub samples: usize = 512,
        /// Answer tokens of each of these samples that are read, the first ones.
        pub positions: usize = 64,
        /// The probability that the gate's count of tokens must reach.
        pub top_p: f64 = 0.9,
        /// Slope of the gate between the aligned model with the prompt and without it.
        pub slope: f64 = 2.0,
        /// Answer tokens at which the gate is whole.
        pub prefix: usize = 8,
        /// Answer tokens after which the gate has fallen by a factor e, beyond `prefix`; 0: it is closed there.
        pub decay: f64 = 8.0,
        /// The last prompt tokens that stay where the aligned model reads an answer without its prompt: those
        /// with which the template begins an answer. 0: the tokens with which nearly all prompts end.
        pub header: usize = 0,
    }
}

#[typetag::serde(name = "pact")]
impl DefenseConfig for PactConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)?;
        let above = self.temperature > 0.0 && self.temperature.is_finite();
        ConfigError::unless(above, "temperature", "must be above 0", self.temperature)?;
        ConfigError::unless(self.tokens >= 2, "tokens", "must be at least 2", self.tokens)?;
        ConfigError::positive("samples", self.samples)?;
        ConfigError::positive("positions", self.positions)?;
        let share = self.top_p > 0.0 && self.top_p <= 1.0;
        ConfigError::unless(share, "top_p", "must be above 0 and at most 1", self.top_p)?;
        ConfigError::unless(self.slope.is_finite(), "slope", "must be finite", self.slope)?;
        ConfigError::not_negative("decay", self.decay)
    }

    fn needs(&self) -> Needs {
        let samples = Needs::none().stream(SAFETY).first_of("alignment", self.samples);
        samples.reference(Reference::Base)
    }

    fn passes(&self) -> f64 {
        // Two further forward passes, one of them on answers alone.
        5.0 / 3.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn runs_references(&self) -> bool {
        true
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.01..10:log", "tokens=10,20,50,100"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([("lambda".to_owned(), json!(0.1))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Pact::new(self.clone())))
    }
}
