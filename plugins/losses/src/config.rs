//! Settings of the two metrics.

use serde::{Deserialize, Serialize};
use vxf_core::prelude::*;

use crate::algorithm::{AlignmentLoss, Perplexity};

/// How batch losses become one figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Every labelled token counts once, whatever batch it is in.
    #[default]
    Token,
    /// Every sample counts its batch's mean: the figure of the reference implementation, which
    /// changes with the batch size.
    Batch,
}

vxf_core::config! {
    /// Settings of `alignment-loss`.
    pub struct AlignmentLossConfig {
        /// How batch losses are averaged: `token` counts every labelled token once, `batch` takes
        /// the mean of batch losses, as the reference does.
        pub average: Average = Average::Token,
    }
}

vxf_core::config! {
    /// Settings of `perplexity`: there are none.
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

#[typetag::serde(name = "perplexity")]
impl MetricConfig for PerplexityConfig {
    fn needs(&self) -> Needs {
        Needs::none().samples("fluency")
    }

    fn columns(&self) -> &[Column] {
        const { &[Column::further("perplexity", "perplexity", 2)] }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Perplexity))
    }
}
