//! Reference models of a run, and the weights of their modules.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::adapter::{Lora, Trainable};
use crate::backbone::Backbone;
use crate::numeric::trained_in;
use crate::{Error, Params, Result};

/// A model that a method compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The model before any stage.
    Base,
    /// The model after the last alignment stage.
    Aligned,
    /// The model that this run starts from.
    Parent,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Aligned => "aligned",
            Self::Parent => "parent",
        })
    }
}

/// A model to compare with, with all trained adapters merged in. Its weights are read one at a time; a
/// method that runs it asks for the whole.
pub trait Lineage: Send + Sync {
    /// The weight `[out, in]` of the linear layer `module`, or that of an embedding or a norm, in
    /// `f32` or wider.
    ///
    /// `module` is the name in the Hugging Face checkpoint without `.weight`, for example
    /// `model.layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// When the model has no such module; when its weight cannot be read.
    fn weight(&self, module: &str) -> Result<Tensor>;

    /// The model apart from the trained one, and its weights beyond the frozen ones, to run it. It is
    /// freed with what is returned.
    ///
    /// # Errors
    /// When it cannot be loaded; by default, since weights alone do not run.
    fn model(&self) -> Result<(Arc<dyn Backbone>, Params)> {
        Err(Error::Unsuitable("a reference model that is weights alone cannot run".to_owned()))
    }
}

impl fmt::Debug for dyn Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lineage")
    }
}

/// Full weights under their Hugging Face names, all in memory.
impl Lineage for Params {
    fn weight(&self, module: &str) -> Result<Tensor> {
        let name = format!("{module}.weight");
        let found = self.get(&name).ok_or_else(|| unknown(module, self))?;
        Ok(found.detach().to_dtype(trained_in(found.dtype()))?)
    }
}

/// A reference model in a step; its weights have the device and the type of the trained ones.
#[derive(Clone, Copy)]
pub struct ReferenceModel<'a> {
    pub(crate) lineage: &'a dyn Lineage,
    pub(crate) dtype: DType,
    pub(crate) device: &'a Device,
}

impl ReferenceModel<'_> {
    /// The weight of `module`, as [`Lineage::weight`].
    ///
    /// # Errors
    /// As there.
    pub fn weight(&self, module: &str) -> Result<Tensor> {
        let weight = self.lineage.weight(module)?;
        Ok(weight.to_device(self.device)?.to_dtype(self.dtype)?.detach())
    }
}

/// The weight of `module` in `backbone` under the trained `weights`: with an adapter, `W + scale B A`
/// in the type of the trained weights, unrounded.
///
/// # Errors
/// When the model has no such module; when a tensor of it is missing in `weights`.
pub fn merged(backbone: &dyn Backbone, weights: &Params, module: &str) -> Result<Tensor> {
    let name = format!("{module}.weight");
    let dtype = trained_in(backbone.dtype());
    let frozen = backbone.tensor(&name)?.ok_or_else(|| unknown(module, &backbone.tensors()))?;
    let part = |name: String| weights.get(&name).ok_or(Error::ParameterMismatch { name });
    let lora = match backbone.trainable() {
        Trainable::Full => return Ok(part(name)?.detach().to_dtype(dtype)?),
        Trainable::Lora(lora) => lora,
    };
    let frozen = frozen.detach().to_dtype(dtype)?;
    let (a, b) = (Lora::a_of(module), Lora::b_of(module));
    if weights.get(&a).is_none() && weights.get(&b).is_none() {
        return Ok(frozen);
    }
    let (a, b) = (part(a)?.detach().to_dtype(dtype)?, part(b)?.detach().to_dtype(dtype)?);
    Ok((frozen + (b.matmul(&a)? * lora.scale())?)?)
}

/// The error for a module without a weight in `tensors`.
fn unknown(module: &str, tensors: &Params) -> Error {
    let modules: Vec<_> = tensors
        .names()
        .filter_map(|name| name.strip_suffix(".weight"))
        .map(str::to_owned)
        .collect();
    let near = crate::registry::nearest(module, &modules);
    let known = if near.is_empty() { modules } else { near };
    Error::UnknownModule { module: module.to_owned(), known: known.into_iter().take(3).collect() }
}
