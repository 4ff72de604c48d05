//! Settings of SDD.

use vxf_core::prelude::*;

use crate::algorithm::Sdd;

vxf_core::config! {
    /// The defence `sdd` has no settings: it is a recipe for data.
    pub struct SddConfig {}
}

#[typetag::serde(name = "sdd")]
impl DefenseConfig for SddConfig {
    fn needs(&self) -> Needs {
        Needs::none().stream("harmful").stream("benign")
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Sdd))
    }
}
