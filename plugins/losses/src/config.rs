//! Settings of the metrics.

use serde::{Deserialize, Serialize};
use vxf_core::prelude::*;

use crate::algorithm::{AlignmentLoss, Perplexity};
use crate::curvature::Curvature;

/// How batch losses are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The mean over all labelled tokens.
    #[default]
    Token,
    /// The mean of batch losses, weighted by samples, as in the reference; it depends on the batch
    /// size.
    Batch,
}

vxf_core::config! {
    /// Settings of `alignment-loss`.
    pub struct AlignmentLossConfig {
        /// token: the mean over labelled tokens. batch: the mean of batch losses, as in the published
        /// code.
        pub average: Average = Average::Token,
    }
}

vxf_core::config! {
    /// The metric `perplexity` has no settings.
    pub struct PerplexityConfig {}
}

#[typetag::serde(name = "alignment-loss")]
impl MetricConfig for AlignmentLossConfig {
    fn needs(&self) -> Needs {
        Needs::none().samples("alignment")
    }

    fn columns(&self) -> &[Column] {
        const { &[Column::further("alignment_loss", "alignment loss", 3)] }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(AlignmentLoss { average: self.average }))
    }

    fn follows_training(&self) -> bool {
        true
    }
}

vxf_core::config! {
    /// The metric `curvature` has no settings.
    pub struct CurvatureConfig {}
}

#[typetag::serde(name = "curvature")]
impl MetricConfig for CurvatureConfig {
    fn needs(&self) -> Needs {
        Needs::none().samples("alignment").reference(Reference::Aligned)
    }

    fn columns(&self) -> &[Column] {
        const { &[Column::further("curvature", "curvature", 3).of_users()] }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Curvature))
    }
}

#[typetag::serde(name = "perplexity")]
impl MetricConfig for PerplexityConfig {
    fn needs(&self) -> Needs {
        Needs::none().samples("fluency")
    }

    fn columns(&self) -> &[Column] {
        const {
            let exploded = Reading::Bounded("its perplexity exploded");
            &[Column::further("perplexity", "perplexity", 2).with_reading(exploded)]
        }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Perplexity))
    }
}
