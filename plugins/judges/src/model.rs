//! The model files of a judge, checked before training starts.

use std::sync::Arc;

use candle_core::{DType, Device};
use vxf_core::backbone::{Architecture, Backbone};
use vxf_core::config::BuildContext;
use vxf_core::{Error, Result};
use vxf_data::{Codec, TemplateChoice};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;

/// An opened model directory; the weights are loaded when there are answers to judge.
pub(crate) struct Files {
    pub(crate) codec: Codec,
    pub(crate) architecture: Architecture,
    pub(crate) checkpoint: Checkpoint,
    dtype: DType,
    device: Device,
}

impl Files {
    /// Opens the model `name` and reads everything except its weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, the model family is unknown, or the tokenizer does not fit.
    pub(crate) fn open(
        judge: &'static str,
        name: &str,
        template: TemplateChoice,
        dtype: DType,
        context: &BuildContext<'_>,
    ) -> Result<Self> {
        let directory = (context.model)(name)?;
        let checkpoint = Checkpoint::open(&directory)?;
        let architecture = checkpoint.outline()?.architecture;
        let plugin = |error: vxf_data::Error| failed(judge, error);
        let codec = Codec::open(&directory, template).map_err(plugin)?;
        let codec = codec.for_vocabulary(architecture.vocabulary);
        let device = context.device.clone();
        Ok(Self { codec, architecture, checkpoint, dtype, device })
    }

    /// Loads the model with its weights.
    pub(crate) fn load(&self) -> Result<Arc<dyn Backbone>> {
        load_backbone(&self.checkpoint, self.dtype, &self.device)
    }
}

/// An error of a judge.
pub(crate) fn failed(
    judge: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Plugin { plugin: judge, source: error.into() }
}
