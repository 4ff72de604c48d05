//! Settings of constrained SFT.

use vxf_core::prelude::*;

use crate::algorithm::ConstrainedSft;

vxf_core::config! {
    /// Settings of the defence `constrained-sft`.
    pub struct ConstrainedSftConfig {
        /// Strength beta at the first answer token.
        pub first: f64 = 0.5,
        /// Strength at the tokens after it, up to `early_tokens`.
        pub early: f64 = 2.0,
        /// Answer tokens that are held strongly, the first included.
        pub early_tokens: usize = 5,
        /// Strength at all later tokens.
        pub rest: f64 = 0.1,
    }
}

#[typetag::serde(name = "constrained-sft")]
impl DefenseConfig for ConstrainedSftConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [("first", self.first), ("early", self.early), ("rest", self.rest)] {
            let range = value.is_finite() && value > 0.0;
            ConfigError::unless(range, key, "must be finite and above 0", value)?;
        }
        Ok(())
    }

    fn passes(&self) -> f64 {
        4.0 / 3.0
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["first=0.1..5:log", "early=0.5..10:log", "rest=0.02..2:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(ConstrainedSft::new(self.clone())))
    }
}
