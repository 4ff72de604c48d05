//! Settings of the attacks.

use vxf_core::prelude::*;

use crate::abliterate::Abliterate;
use crate::prune::Prune;
use crate::unalign::Unalign;

/// The modules of all families that write to the residual stream.
const WRITERS: [&str; 7] =
    ["o_proj", "out_proj", "down_proj", "fc2", "embed_tokens", "embed_positions", "project_in"];

vxf_core::config! {
    /// Settings of the attack `abliterate`.
    pub struct AbliterateConfig {
        /// The training set with forbidden requests, which the model refuses.
        pub forbidden: String = "harmful".to_owned(),
        /// The training set with harmless requests, which it answers.
        pub harmless: String = "user".to_owned(),
        /// Samples of each set from which the direction is taken.
        pub samples: usize = 128,
        /// Samples in a batch.
        pub batch_size: usize = 16,
        /// Depth of the layer after which the direction is taken: 0 is the first, 1 the last.
        pub depth: f64 = 0.6,
        /// The weights that write to the residual stream, by the last part of their module's name. The
        /// direction is removed from their output.
        pub modules: Vec<String> = WRITERS.map(str::to_owned).to_vec(),
    }
}

#[typetag::serde(name = "abliterate")]
impl DefenseConfig for AbliterateConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::positive("samples", self.samples)?;
        ConfigError::positive("batch_size", self.batch_size)?;
        let range = (0.0..=1.0).contains(&self.depth);
        ConfigError::unless(range, "depth", "must lie between 0 and 1", self.depth)?;
        let named = !self.modules.is_empty();
        ConfigError::unless(named, "modules", "must name at least one module", "[]")?;
        let differ = self.forbidden != self.harmless;
        let rule = "must be another set than `forbidden`";
        ConfigError::unless(differ, "harmless", rule, format!("{:?}", self.harmless))
    }

    fn needs(&self) -> Needs {
        let forbidden = Needs::none().stream(&self.forbidden).batches_of(self.batch_size);
        forbidden.stream(&self.harmless).batches_of(self.batch_size)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn attacks(&self) -> bool {
        true
    }

    fn needs_full_weights(&self) -> bool {
        true
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Abliterate::new(self.clone())))
    }
}

vxf_core::config! {
    /// Settings of the attack `prune`.
    pub struct PruneConfig {
        /// Share of the weights of each matrix that are set to zero, those of the smallest magnitude.
        pub share: f64 = 0.3,
    }
}

#[typetag::serde(name = "prune")]
impl DefenseConfig for PruneConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..=1.0).contains(&self.share);
        ConfigError::unless(range, "share", "must lie between 0 and 1", self.share)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn attacks(&self) -> bool {
        true
    }

    fn needs_full_weights(&self) -> bool {
        true
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Prune::new(self.share)))
    }
}

vxf_core::config! {
    /// Settings of the attack `unalign`.
    pub struct UnalignConfig {
        /// Weight lambda of the rise of the alignment loss.
        pub lambda: f64 = 1.0,
        /// The alignment loss, in nats per token, at which it is raised no further.
        pub limit: f64 = 2.0,
        /// Alignment samples in each step; 0 takes the stage's batch size.
        pub batch_size: usize = 0,
    }
}

#[typetag::serde(name = "unalign")]
impl DefenseConfig for UnalignConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::not_negative("lambda", self.lambda)?;
        ConfigError::not_negative("limit", self.limit)
    }

    fn needs(&self) -> Needs {
        let alignment = Needs::none().stream("alignment");
        match self.batch_size {
            0 => alignment,
            size => alignment.batches_of(size),
        }
    }

    fn passes(&self) -> f64 {
        2.0
    }

    fn copies(&self) -> f64 {
        // The gradient on alignment data.
        1.0
    }

    fn attacks(&self) -> bool {
        true
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["lambda=0.1..10:log", "limit=0.5..8:log"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Unalign::new(self.clone())))
    }
}
