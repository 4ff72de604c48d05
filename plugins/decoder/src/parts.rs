//! Builds layers from the tensors of a checkpoint.

use std::collections::BTreeMap;

use crate::layers;
use candle_core::{DType, Device, Tensor};
use vxf_core::{Error, Params, Result};
use vxf_nn::ops::{self, Matrix};
use vxf_tensor::Quantized;

use crate::design::{Design, Norm};

/// Stacks of weights, by the name of the first layer.
pub(crate) type Joined = BTreeMap<String, Matrix>;
/// Matrices in few bits, by the name of the weight.
pub(crate) type InFewBits = BTreeMap<String, Quantized>;

/// Stacks the weights of layers with the same input. `tensors` become parts of the stacks, so that nothing
/// is stored twice.
pub(crate) fn joined(
    design: &Design,
    mut tensors: Params,
    quantized: &InFewBits,
) -> Result<(Params, Joined)> {
    let mut all = Joined::new();
    let layers = 0..design.windows.len();
    let groups = layers.flat_map(|layer| [design.query_key_value(layer), design.gate_up(layer)]);
    for names in groups {
        let few = |name: &String| quantized.get(&format!("{name}.weight"));
        if let Some(parts) = names.iter().map(few).collect::<Option<Vec<_>>>() {
            all.insert(names[0].clone(), Matrix::Quantized(Quantized::stacked(&parts)?));
            continue;
        }
        let named = |name: &String| tensors.get(&format!("{name}.weight")).cloned();
        let Some(parts) = names.iter().map(named).collect::<Option<Vec<_>>>() else { continue };
        if !parts.iter().all(ops::joins) {
            continue;
        }
        let weight = Tensor::cat(&parts, 0)?;
        let mut first = 0;
        for (name, part) in names.iter().zip(&parts) {
            let rows = part.dim(0)?;
            tensors.insert(format!("{name}.weight"), weight.narrow(0, first, rows)?);
            first += rows;
        }
        all.insert(names[0].clone(), Matrix::Dense(weight));
    }
    Ok((tensors, all))
}

/// A design with its tensors, all of them as its outline lists them.
pub(crate) struct Parts<'a> {
    pub(crate) design: &'a Design,
    pub(crate) tensors: &'a Params,
    /// The matrices that are no tensors.
    pub(crate) quantized: &'a InFewBits,
    /// The stacks of the weights of layers with the same input.
    pub(crate) joined: &'a Joined,
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
        let weight = format!("{name}.weight");
        let weight = match self.quantized.get(&weight) {
            Some(matrix) => Matrix::Quantized(matrix.clone()),
            None => Matrix::Dense(self.tensor(&weight)?),
        };
        Ok(layers::Linear::new(name, weight, bias))
    }

    /// Linear layers with the same input.
    pub(crate) fn group(&self, names: &[String]) -> Result<layers::Group> {
        let layers = names.iter().map(|name| self.linear(name)).collect::<Result<Vec<_>>>()?;
        layers::Group::new(layers, names.first().and_then(|name| self.joined.get(name)).cloned())
    }

    /// The norm called `name`, in the design's way.
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
