//! Settings of Lisa.

use serde_json::{Map, Value, json};
use vxf_core::prelude::*;

use crate::algorithm::Lisa;

vxf_core::config! {
    /// Settings of the defence `lisa`.
    pub struct LisaConfig {
        /// Steps on alignment data before it turns to the user's.
        pub alignment_steps: u64 = 100,
        /// Steps on the user's data before it turns back.
        pub user_steps: u64 = 900,
        /// Strength rho of the proximal term `rho / 2 ||w - w_other||^2`; 0 is bi-state optimisation (BSO).
        pub rho: f64 = 1.0,
        /// Share of all steps at the start without the proximal term.
        pub warmup: f64 = 0.1,
    }
}

vxf_core::config! {
    /// Settings of the defence `bso`: Lisa without a proximal term.
    pub struct BsoConfig {
        /// Steps on alignment data before it turns to the user's.
        pub alignment_steps: u64 = 100,
        /// Steps on the user's data before it turns back.
        pub user_steps: u64 = 900,
    }
}

impl BsoConfig {
    fn lisa(&self) -> LisaConfig {
        let Self { alignment_steps, user_steps } = *self;
        LisaConfig { alignment_steps, user_steps, rho: 0.0, ..LisaConfig::default() }
    }
}

#[typetag::serde(name = "bso")]
impl DefenseConfig for BsoConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.lisa().validate()
    }

    fn needs(&self) -> Needs {
        self.lisa().needs()
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["alignment_steps=1,2,4,8,16,100", "user_steps=4,9,18,36,72,900"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        self.lisa().world_defaults()
    }

    fn build(&self, context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        self.lisa().build(context)
    }
}

#[typetag::serde(name = "lisa")]
impl DefenseConfig for LisaConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self { alignment_steps, user_steps, rho, warmup } = self;
        ConfigError::positive("alignment_steps", *alignment_steps)?;
        ConfigError::positive("user_steps", *user_steps)?;
        ConfigError::not_negative("rho", *rho)?;
        let share = (0.0..=1.0).contains(warmup);
        ConfigError::unless(share, "warmup", "must lie between 0 and 1", warmup)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment")
    }

    fn copies(&self) -> f64 {
        2.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["alignment_steps=1,2,4,8,16,100", "user_steps=4,9,18,36,72,900", "rho=0.01..10:log"]
    }

    fn world_defaults(&self) -> Map<String, Value> {
        // A run there has 160 steps.
        Map::from_iter([
            ("alignment_steps".to_owned(), json!(2)),
            ("user_steps".to_owned(), json!(18)),
        ])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Lisa::new(self.clone())))
    }
}
