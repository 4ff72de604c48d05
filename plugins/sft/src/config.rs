//! The baselines have no settings.

use vxf_core::prelude::*;

use crate::algorithm::{NoPerturbation, NonAligned, Sft};

vxf_core::config! {
    /// The defence `none` has no settings.
    pub struct NonAlignedConfig {}
}

vxf_core::config! {
    /// The defence `sft` has no settings.
    pub struct SftConfig {}
}

vxf_core::config! {
    /// The perturber `none` has no settings.
    pub struct NoPerturbationConfig {}
}

#[typetag::serde(name = "none")]
impl DefenseConfig for NonAlignedConfig {
    fn trains(&self) -> bool {
        false
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(NonAligned))
    }
}

#[typetag::serde(name = "sft")]
impl DefenseConfig for SftConfig {
    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Sft))
    }
}

#[typetag::serde(name = "none")]
impl PerturberConfig for NoPerturbationConfig {
    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(NoPerturbation))
    }
}
