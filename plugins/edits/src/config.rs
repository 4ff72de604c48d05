//! Settings of the edits.

use vxf_core::prelude::*;

use crate::antidote::Antidote;
use crate::lox::Lox;
use crate::safelora::SafeLora;
use crate::wise::WiseFt;

vxf_core::config! {
    /// Settings of the post-tuning method `safelora`.
    pub struct SafeLoraConfig {
        /// Layers whose cosine between projected and plain change is at most tau are projected.
        pub tau: f64 = 0.5,
        /// Projects this number of layers, those with the lowest cosine, instead; 0 goes by tau.
        pub layers: usize = 0,
    }
}

#[typetag::serde(name = "safelora")]
impl DefenseConfig for SafeLoraConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (-1.0..=1.0).contains(&self.tau);
        ConfigError::unless(range, "tau", "must lie between -1 and 1", self.tau)
    }

    fn needs(&self) -> Needs {
        Needs::none().reference(Reference::Base).reference(Reference::Aligned)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["tau=0.1..0.99"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(SafeLora::new(self.clone())))
    }
}

vxf_core::config! {
    /// Settings of the post-tuning method `wise-ft`.
    pub struct WiseFtConfig {
        /// Share of the way back to the aligned weights: 0 changes nothing, 1 gives the aligned
        /// matrices. Biases stay as they are.
        pub share: f64 = 0.3,
    }
}

#[typetag::serde(name = "wise-ft")]
impl DefenseConfig for WiseFtConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..=1.0).contains(&self.share);
        ConfigError::unless(range, "share", "must lie between 0 and 1", self.share)
    }

    fn needs(&self) -> Needs {
        Needs::none().reference(Reference::Aligned)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["share=0.05..0.9"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(WiseFt::new(self.share)))
    }
}

vxf_core::config! {
    /// Settings of the alignment method `lox`.
    pub struct LoxConfig {
        /// Leading singular directions that are extrapolated.
        pub rank: usize = 6,
        /// How far: the leading part is added this many times.
        pub factor: f64 = 1.25,
    }
}

#[typetag::serde(name = "lox")]
impl DefenseConfig for LoxConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::positive("rank", self.rank)?;
        ConfigError::not_negative("factor", self.factor)
    }

    fn needs(&self) -> Needs {
        Needs::none().reference(Reference::Base)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["rank=2,4,6,8,16", "factor=0.25..2"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Lox::new(self.clone())))
    }
}

/// Which weights Antidote sets to zero: sources disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pruned {
    /// Those with the highest scores on harmful samples, as in the paper and the code.
    #[default]
    Highest,
    /// Those with the lowest.
    Lowest,
}

vxf_core::config! {
    /// Settings of the post-tuning method `antidote`.
    pub struct AntidoteConfig {
        /// Share of the weights of each output row that is set to zero.
        pub share: f64 = 0.1,
        /// Harmful samples that the scores are computed on; rounded up to whole batches.
        pub samples: usize = 2000,
        /// Which weights: the `highest` scores on harmful samples, or the `lowest`.
        pub prunes: Pruned = Pruned::Highest,
    }
}

#[typetag::serde(name = "antidote")]
impl DefenseConfig for AntidoteConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..=1.0).contains(&self.share);
        ConfigError::unless(range, "share", "must lie between 0 and 1", self.share)?;
        ConfigError::positive("samples", self.samples)
    }

    fn needs(&self) -> Needs {
        Needs::none().stream("harmful")
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["share=0.005..0.2:log"]
    }

    fn world_defaults(&self) -> serde_json::Map<String, serde_json::Value> {
        // The embedded world has few harmful samples, and a narrow model no weights to spare.
        let samples = ("samples".to_owned(), serde_json::json!(200));
        serde_json::Map::from_iter([samples, ("share".to_owned(), serde_json::json!(0.02))])
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Antidote::new(self.clone())))
    }
}
