//! Settings of LDIFS.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Ldifs;

vxf_core::config! {
    /// Settings of the defence `ldifs`.
    pub struct LdifsConfig {
        /// Strength rho of the penalty `rho / 2 sum_l ||m_l - m_l_aligned||^2`, summed over positions.
        pub rho: f64 = 1e-4,
        /// A layer whose penalty reaches this is left out of the step.
        pub limit: f64 = 0.1,
    }
}

#[typetag::serde(name = "ldifs")]
impl DefenseConfig for LdifsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("rho", self.rho)?;
        let rule = "must be a number above 0";
        ConfigError::unless(self.limit > 0.0, "limit", rule, self.limit)
    }

    fn passes(&self) -> f64 {
        4.0 / 3.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rho=1e-5..1:log", "limit=0.1..100:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // A few layers of width 64: the sum is thousands of times smaller than that of a 7B model.
        Map::from_iter([("rho".to_owned(), json!(1e-2)), ("limit".to_owned(), json!(10.0))])
    }

    fn claims(&self) -> &'static [Claim] {
        &[Claim::DRIFT]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Ldifs::new(self.clone())))
    }
}
