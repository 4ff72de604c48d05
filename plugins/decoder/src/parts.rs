//! Builds layers from the tensors of a checkpoint.

use crate::layers;
use candle_core::{DType, Device, Tensor};
use vxf_core::{Error, Params, Result};

use crate::design::{Design, Norm};

/// A design with its tensors, which match its outline.
pub(crate) struct Parts<'a> {
    pub(crate) design: &'a Design,
    pub(crate) tensors: &'a Params,
    pub(crate) dtype: DType,
    pub(crate) device: &'a Device,
}

impl Parts<'_> {
    /// The tensor called `name`.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.get(name).cloned();
        tensor.ok_or_else(|| Error::ParameterMismatch { name: name.to_owned() })
    }

    /// The linear layer called `name`.
    pub(crate) fn linear(&self, name: &str) -> Result<layers::Linear> {
        let bias = self.tensors.get(&format!("{name}.bias")).cloned();
        Ok(layers::Linear::new(name, self.tensor(&format!("{name}.weight"))?, bias))
    }

    /// The norm called `name`, of the design's kind.
    pub(crate) fn norm(&self, name: &str) -> Result<layers::Norm> {
        let epsilon = self.design.epsilon;
        match self.design.norm {
            Norm::Rms | Norm::OffsetRms => self.rms_norm(name),
            Norm::Layer => {
                let (gain, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                Ok(layers::Norm::layer(name, self.tensor(&gain)?, self.tensor(&bias)?, epsilon))
            }
            Norm::PlainLayer => {
                let gain = Tensor::ones(self.design.width, self.dtype, self.device)?;
                let bias = gain.zeros_like()?;
                Ok(layers::Norm::layer(name, gain, bias, epsilon))
            }
        }
    }

    /// The root-mean-square norm called `name`.
    pub(crate) fn rms_norm(&self, name: &str) -> Result<layers::Norm> {
        let gain = self.tensor(&format!("{name}.weight"))?;
        let offset = self.design.norm == Norm::OffsetRms;
        Ok(layers::Norm::rms(name, gain, offset, self.design.epsilon))
    }
}
