//! What judges that are models need: their files, checked before anything is trained.

use std::sync::Arc;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use vxf_core::backbone::{Architecture, Backbone};
use vxf_core::config::BuildContext;
use vxf_core::{Error, Result};
use vxf_data::{Codec, TemplateChoice};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;

/// The type that a judge's model computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floats.
    F16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::BF16,
            Precision::F16 => Self::F16,
        }
    }
}

/// A model that is loaded when there is something to judge.
pub(crate) struct Files {
    pub(crate) codec: Codec,
    pub(crate) architecture: Architecture,
    pub(crate) checkpoint: Checkpoint,
    dtype: DType,
    device: Device,
}

impl Files {
    /// Finds the model called `name` and reads all but its weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, no family reads the model, or its tokenizer does not fit.
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
        codec.fits(architecture.vocabulary).map_err(plugin)?;
        let device = context.device.clone();
        Ok(Self { codec, architecture, checkpoint, dtype, device })
    }

    /// The model itself, freed when the caller is done with it.
    pub(crate) fn load(&self) -> Result<Arc<dyn Backbone>> {
        load_backbone(&self.checkpoint, self.dtype, &self.device)
    }
}

/// A judge's own error.
pub(crate) fn failed(
    judge: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Plugin { plugin: judge, source: error.into() }
}
