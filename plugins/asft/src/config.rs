//! Settings of AsFT.

use vxf_core::prelude::*;

use crate::algorithm::Asft;

vxf_core::config! {
    /// Settings of the defence `asft`.
    pub struct AsftConfig {
        /// Weight lambda of the penalty.
        pub lambda: f64 = 1.0,
    }
}

#[typetag::serde(name = "asft")]
impl DefenseConfig for AsftConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)
    }

    fn needs(&self) -> Needs {
        Needs::none().reference(Reference::Base).reference(Reference::Aligned)
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.01..100:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Asft::new(self.clone())))
    }
}
