//! Settings of RepNoise and SEAM.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::repnoise::RepNoise;
use crate::seam::Seam;

vxf_core::config! {
    /// Settings of the defence `repnoise`.
    pub struct RepNoiseConfig {
        /// Weight beta of the distance of harmful representations from noise.
        pub beta: f64 = 1e-3,
        /// Weight alpha of the logarithm of the harmful loss, which is raised.
        pub alpha: f64 = 1.0,
    }
}

#[typetag::serde(name = "repnoise")]
impl DefenseConfig for RepNoiseConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("beta", self.beta)?;
        ConfigError::not_negative("alpha", self.alpha)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful")
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["beta=1e-4..1:log", "alpha=0.01..3:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        Map::from_iter([("alpha".to_owned(), json!(0.1))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(RepNoise::new(self.clone())))
    }
}

vxf_core::config! {
    /// Settings of the defence `seam`.
    pub struct SeamConfig {
        /// Weight alpha of the loss on alignment data.
        pub alpha: f64 = 1.0,
        /// Weight beta of the coupling of harmful and benign gradients.
        pub beta: f64 = 0.01,
        /// Length epsilon of the steps by which the gradient of the coupling is estimated.
        pub epsilon: f64 = 1e-3,
        /// The stream that plays the benign one: `alignment`, or another set of the data.
        pub benign: String = "alignment".to_owned(),
    }
}

#[typetag::serde(name = "seam")]
impl DefenseConfig for SeamConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("alpha", self.alpha)?;
        ConfigError::not_negative("beta", self.beta)?;
        let rule = "must be a number above 0";
        let known = self.epsilon.is_finite() && self.epsilon > 0.0;
        ConfigError::unless(known, "epsilon", rule, self.epsilon)?;
        let rule = "must name a stream other than `harmful`";
        let named = !self.benign.is_empty() && self.benign != "harmful";
        ConfigError::unless(named, "benign", rule, &self.benign)
    }

    fn needs(&self) -> Needs {
        let needs = Needs::none().stream("harmful");
        if self.benign == "alignment" { needs } else { needs.stream(&*self.benign) }
    }

    fn passes(&self) -> f64 {
        6.0
    }

    fn copies(&self) -> f64 {
        // Four gradients and the moved weights.
        5.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["alpha=0.1..10:log", "beta=1e-4..1:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Seam::new(self.clone())))
    }
}
