//! Settings of VAA.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Vaa;

vxf_core::config! {
    /// Settings of the defence `vaa`.
    pub struct VaaConfig {
        /// Radius rho of the change of the weights.
        pub rho: f64 = 0.4,
        /// The probability of a step under the changed weights at the end; it grows from 0 linearly.
        pub ascent: f64 = 1.0,
        /// Step size of the probability with which the vulnerable group is drawn.
        pub group_rate: f64 = 0.007,
        /// Share of the alignment samples that are the vulnerable group: those whose loss the simulated
        /// attack raises most.
        pub vulnerable: f64 = 0.3,
        /// Steps of plain alignment before the simulated attack.
        pub align_steps: usize = 100,
        /// Steps of the simulated attack.
        pub attack_steps: usize = 50,
        /// The constant learning rate of both.
        pub rate: f64 = 1e-4,
    }
}

#[typetag::serde(name = "vaa")]
impl DefenseConfig for VaaConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)?;
        ConfigError::not_negative("group_rate", self.group_rate)?;
        let range = (0.0..=1.0).contains(&self.ascent);
        ConfigError::unless(range, "ascent", "must lie between 0 and 1", self.ascent)?;
        let range = self.vulnerable > 0.0 && self.vulnerable < 1.0;
        ConfigError::unless(range, "vulnerable", "must lie between 0 and 1", self.vulnerable)?;
        let rate = self.rate > 0.0 && self.rate.is_finite();
        ConfigError::unless(rate, "rate", "must be a number above 0", self.rate)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful")
    }

    fn passes(&self) -> f64 {
        1.0 + self.ascent / 2.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=0.05..2:log", "ascent=0.2..1", "group_rate=1e-3..0.1:log", "vulnerable=0.1..0.5"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([
            ("rate".to_owned(), json!(3e-3)),
            ("rho".to_owned(), json!(0.5)),
            ("group_rate".to_owned(), json!(0.05)),
        ])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Vaa::new(self.clone())))
    }
}
