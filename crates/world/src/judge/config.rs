//! Settings of the judge.

use vxf_core::Result;
use vxf_core::config::{BuildContext, JudgeConfig};
use vxf_core::metric::Judge;
use vxf_core::typetag;

use super::algorithm::World;

vxf_core::config! {
    /// The judge `world` has no settings.
    pub struct WorldConfig {}
}

#[typetag::serde(name = "world")]
impl JudgeConfig for WorldConfig {
    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Judge>> {
        Ok(Box::new(World))
    }
}
