//! Settings of task arithmetic and of RESTA.

use vxf_core::prelude::*;

use crate::algorithm::Subtraction;

/// Which difference loses entries at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinned {
    /// What the user's training changed, before the safety vector is added.
    Tuned,
    /// The safety vector.
    Safety,
}

fn checked(factor: f64, steps: usize, rate: f64) -> Result<(), ConfigError> {
    ConfigError::not_negative("factor", factor)?;
    ConfigError::positive("steps", steps)?;
    ConfigError::unless(rate > 0.0 && rate.is_finite(), "rate", "must be a number above 0", rate)
}

vxf_core::config! {
    /// Settings of the post-tuning method `task-arithmetic`.
    pub struct TaskArithmeticConfig {
        /// How much of the harmful vector is subtracted.
        pub factor: f64 = 1.0,
        /// Steps of the harmful training that makes the vector.
        pub steps: usize = 50,
        /// Its constant learning rate.
        pub rate: f64 = 1e-5,
    }
}

#[typetag::serde(name = "task-arithmetic")]
impl DefenseConfig for TaskArithmeticConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        checked(self.factor, self.steps, self.rate)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").reference(Reference::Base)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn needs_full_weights(&self) -> bool {
        true
    }

    fn copies(&self) -> f64 {
        4.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["factor=0.2..3:log", "steps=20,50,100,200", "rate=1e-5..1e-2:log"]
    }

    fn world_defaults(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::from_iter([("rate".to_owned(), serde_json::json!(1e-3))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        let Self { factor, steps, rate } = *self;
        let (dropped, thinned) = (0.0, Thinned::Safety);
        Ok(Box::new(Subtraction { from: Reference::Base, factor, dropped, thinned, steps, rate }))
    }
}

vxf_core::config! {
    /// Settings of the post-tuning method `resta`.
    pub struct RestaConfig {
        /// How much of the safety vector is added.
        pub factor: f64 = 1.0,
        /// Share of the entries that are dropped at random; the others grow to make up for it (DARE).
        pub dropped: f64 = 0.0,
        /// Of which difference: tuned (what the user's training changed) or safety (the vector).
        pub thinned: Thinned = Thinned::Tuned,
        /// Steps of the harmful training that makes the vector.
        pub steps: usize = 50,
        /// Its constant learning rate.
        pub rate: f64 = 1e-5,
    }
}

#[typetag::serde(name = "resta")]
impl DefenseConfig for RestaConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..1.0).contains(&self.dropped);
        let rule = "must be at least 0 and below 1";
        ConfigError::unless(range, "dropped", rule, self.dropped)?;
        checked(self.factor, self.steps, self.rate)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").reference(Reference::Aligned)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn needs_full_weights(&self) -> bool {
        true
    }

    fn copies(&self) -> f64 {
        4.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["factor=0.2..3:log", "dropped=0..0.9", "steps=20,50,100,200", "rate=1e-5..1e-2:log"]
    }

    fn world_defaults(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::from_iter([("rate".to_owned(), serde_json::json!(1e-3))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        let Self { factor, dropped, thinned, steps, rate } = *self;
        Ok(Box::new(Subtraction {
            from: Reference::Aligned,
            factor,
            dropped,
            thinned,
            steps,
            rate,
        }))
    }
}
