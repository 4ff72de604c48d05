//! Settings of both methods.

use vxf_core::prelude::*;

use crate::algorithm::Beside;

vxf_core::config! {
    /// Settings of the defence `vlguard`.
    pub struct VlguardConfig {
        /// Weight lambda of the safe samples' loss.
        pub lambda: f64 = 1.0,
        /// Safe samples in each step.
        pub batch_size: usize = 4,
    }
}

#[typetag::serde(name = "vlguard")]
impl DefenseConfig for VlguardConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)?;
        ConfigError::positive("batch_size", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment").batches_of(self.batch_size)
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.1..5:log", "batch_size=2,4,8"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Beside::new(1.0, self.lambda)))
    }
}

vxf_core::config! {
    /// Settings of the defence `safeinstr`.
    pub struct SafeInstrConfig {
        /// Share of safe samples in the mixture.
        pub share: f64 = 0.03,
        /// Safe samples in each step, from which the share's gradient is estimated.
        pub batch_size: usize = 1,
    }
}

#[typetag::serde(name = "safeinstr")]
impl DefenseConfig for SafeInstrConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..=1.0).contains(&self.share);
        ConfigError::unless(range, "share", "must lie between 0 and 1", self.share)?;
        ConfigError::positive("batch_size", self.batch_size)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("alignment").batches_of(self.batch_size)
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["share=0.01..0.5:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Beside::new(1.0 - self.share, self.share)))
    }
}
