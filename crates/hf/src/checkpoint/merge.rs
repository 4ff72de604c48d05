//! Trained weights as changes to a checkpoint.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};

use super::Checkpoint;
use vxf_core::{Lora, Params, Result, Trainable};

/// A change made by training.
pub(super) enum Change {
    /// Weights that replace others.
    Replaced(Params),
    /// Low-rank updates, by module.
    Adapted(BTreeMap<String, Update>),
}

/// The low-rank update of one matrix W `[out, in]`: `W + scale B A`.
#[derive(Clone, Debug)]
pub struct Update {
    /// A `[rank, in]`.
    pub a: Tensor,
    /// B `[out, rank]`.
    pub b: Tensor,
    /// The factor of the product.
    pub scale: f64,
    /// The norm of each row of the updated matrix `[out]` (DoRA, Liu et al. 2024), if it is set.
    pub magnitude: Option<Tensor>,
}

impl Change {
    /// Checks `weights` against the tensors that they change.
    pub(super) fn new(
        trainable: &Trainable,
        weights: &Params,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let fail = |problem| Err(checkpoint.error(problem));
        let Trainable::Lora(lora) = trainable else {
            for (name, tensor) in weights.iter() {
                match checkpoint.shape(name) {
                    Some(shape) if shape == tensor.dims() => {}
                    Some(shape) => {
                        let found = tensor.dims();
                        return fail(format!("`{name}` {found:?} cannot replace {shape:?}"));
                    }
                    None => return fail(format!("there is no tensor `{name}` to be replaced")),
                }
            }
            return Ok(Self::Replaced(weights.copy()?));
        };
        let weights = weights.copy()?;
        let mut updates = BTreeMap::new();
        for (name, _) in weights.iter() {
            let Some((module, "lora_A" | "lora_B")) = name.rsplit_once('.') else {
                return fail(format!("`{name}` is not a weight of an adapter"));
            };
            let pair = (weights.get(&Lora::a_of(module)), weights.get(&Lora::b_of(module)));
            let (Some(a), Some(b)) = pair else {
                return fail(format!("the adapter on `{module}` lacks one of its two matrices"));
            };
            let (a, b, scale) = (a.clone(), b.clone(), lora.scale());
            updates.insert(module.to_owned(), Update { a, b, scale, magnitude: None });
        }
        Self::adapted(updates, checkpoint)
    }

    /// Checks updates against the matrices that they change.
    pub(super) fn adapted(
        updates: BTreeMap<String, Update>,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        for (module, update) in &updates {
            let Some(shape) = checkpoint.shape(&format!("{module}.weight")) else {
                let problem = format!("there is no layer `{module}` for an adapter to change");
                return Err(checkpoint.error(problem));
            };
            let (a, b) = (update.a.dims(), update.b.dims());
            let fits = matches!((a, b, shape.as_slice()),
                (&[rank, input], &[out, b_rank], &[w_out, w_input])
                    if rank == b_rank && input == w_input && out == w_out);
            let magnitude = update.magnitude.as_ref();
            if let Some(found) = magnitude.filter(|it| fits && it.dims() != &shape[..1]) {
                return Err(checkpoint.error(format!(
                    "the adapter on `{module}` has magnitudes {:?}, and its weight is {shape:?}: only \
                     one for each row is supported; merge the adapter with peft first",
                    found.dims()
                )));
            }
            if !fits {
                return Err(checkpoint.error(format!(
                    "the adapter on `{module}`, {a:?} and {b:?}, does not fit its weight {shape:?}"
                )));
            }
        }
        Ok(Self::Adapted(updates))
    }

    /// The replacement of the tensor called `name`, if there is one.
    pub(super) fn replacement(&self, name: &str) -> Option<&Tensor> {
        match self {
            Self::Replaced(weights) => weights.get(name),
            Self::Adapted(_) => None,
        }
    }

    /// The low-rank update of `module`, if there is one.
    pub(super) fn update(&self, module: &str) -> Option<&Update> {
        match self {
            Self::Replaced(_) => None,
            Self::Adapted(updates) => updates.get(module),
        }
    }

    /// The tensor called `name` after this change, in its own dtype.
    pub(super) fn apply(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        match name.strip_suffix(".weight").and_then(|module| self.update(module)) {
            Some(update) => update.merge(&tensor),
            None => Ok(tensor),
        }
    }
}

impl Update {
    /// The updated matrix, in the dtype of `weight`; computed in f32 (f64 if `weight` is).
    fn merge(&self, weight: &Tensor) -> Result<Tensor> {
        let stored = weight.dtype();
        let wide = if stored == DType::F64 { DType::F64 } else { DType::F32 };
        let wide = |tensor: &Tensor| -> Result<Tensor> {
            Ok(tensor.to_device(&Device::Cpu)?.to_dtype(wide)?.contiguous()?)
        };
        let delta = (wide(&self.b)?.matmul(&wide(&self.a)?)? * self.scale)?;
        let merged = (wide(weight)? + delta)?;
        let merged = match &self.magnitude {
            None => merged,
            Some(magnitude) => {
                let norms = merged.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                merged.broadcast_mul(&(wide(magnitude)?.unsqueeze(1)? / norms)?)?
            }
        };
        Ok(merged.to_dtype(stored)?)
    }
}
