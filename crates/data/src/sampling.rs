//! Settings of sampling.

use vxf_core::ConfigError;

vxf_core::config! {
    /// How the next token of an answer is sampled.
    pub struct Sampling {
        /// Sampling temperature; 0 is greedy decoding.
        pub temperature: f64 = 0.0,
        /// Nucleus sampling: samples from the most likely tokens with this total probability; 1 is off.
        pub top_p: f64 = 1.0,
        /// Samples from this many most likely tokens; 0 is off.
        pub top_k: usize = 0,
        /// Number of answers per prompt; more than one needs a temperature above 0.
        pub samples_per_prompt: usize = 1,
    }
}

impl Sampling {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (temperature, top_p) = (self.temperature, self.top_p);
        let rule = "must be 0 (greedy) or a positive number";
        let holds = temperature.is_finite() && temperature >= 0.0;
        ConfigError::unless(holds, "temperature", rule, temperature)?;
        let holds = top_p > 0.0 && top_p <= 1.0;
        ConfigError::unless(holds, "top_p", "must be above 0 and at most 1", top_p)?;
        let several = self.samples_per_prompt;
        ConfigError::unless(several > 0, "samples_per_prompt", "must be at least 1", several)?;
        let rule = "must be 1 for greedy answers, which are all the same; set \
                    `sampling.temperature`";
        ConfigError::unless(several == 1 || temperature > 0.0, "samples_per_prompt", rule, several)
    }
}
