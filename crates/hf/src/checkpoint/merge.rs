//! Trained weights as changes to a checkpoint.

use candle_core::{DType, Device, Tensor};

use super::Checkpoint;
use vxf_core::{Lora, Params, Result, Trainable};

/// A change made by training.
pub(super) enum Change {
    /// Weights that replace others.
    Replaced(Params),
    /// An adapter, and the factor of its matrix product.
    Adapted { weights: Params, scale: f64 },
}

impl Change {
    /// Checks `weights` against the tensors that they change.
    pub(super) fn new(
        trainable: &Trainable,
        weights: &Params,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let fail = |problem| Err(checkpoint.error(problem));
        for (name, tensor) in weights.iter() {
            let module = match trainable {
                Trainable::Full => None,
                Trainable::Lora(_) => match name.rsplit_once('.') {
                    Some((module, "lora_A" | "lora_B")) => Some(module),
                    _ => return fail(format!("`{name}` is not a weight of an adapter")),
                },
            };
            let Some(module) = module else {
                match checkpoint.shape(name) {
                    Some(shape) if shape == tensor.dims() => continue,
                    Some(shape) => {
                        let found = tensor.dims();
                        return fail(format!("`{name}` {found:?} cannot replace {shape:?}"));
                    }
                    None => return fail(format!("there is no tensor `{name}` to be replaced")),
                }
            };
            let (a, b) = (weights.get(&Lora::a_of(module)), weights.get(&Lora::b_of(module)));
            let (Some(a), Some(b)) = (a, b) else {
                return fail(format!("the adapter on `{module}` lacks one of its two matrices"));
            };
            let Some(shape) = checkpoint.shape(&format!("{module}.weight")) else {
                return fail(format!("there is no layer `{module}` for an adapter to change"));
            };
            let fits = matches!((a.dims(), b.dims(), shape.as_slice()),
                (&[rank, input], &[out, b_rank], &[w_out, w_input])
                    if rank == b_rank && input == w_input && out == w_out);
            if !fits {
                let (a, b) = (a.dims(), b.dims());
                return fail(format!(
                    "the adapter on `{module}`, {a:?} and {b:?}, does not fit its weight {shape:?}"
                ));
            }
        }
        let weights = weights.copy()?;
        Ok(match trainable {
            Trainable::Full => Self::Replaced(weights),
            Trainable::Lora(lora) => Self::Adapted { weights, scale: lora.scale() },
        })
    }

    /// The replacement of the tensor called `name`, if there is one.
    pub(super) fn replacement(&self, name: &str) -> Option<&Tensor> {
        match self {
            Self::Replaced(weights) => weights.get(name),
            Self::Adapted { .. } => None,
        }
    }

    /// The tensor called `name` after this change, in its own dtype.
    pub(super) fn apply(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let Self::Adapted { weights, scale } = self else { return Ok(tensor) };
        let Some(module) = name.strip_suffix(".weight") else { return Ok(tensor) };
        let pair = (weights.get(&Lora::a_of(module)), weights.get(&Lora::b_of(module)));
        let (Some(a), Some(b)) = pair else { return Ok(tensor) };
        let stored = tensor.dtype();
        let wide = if stored == DType::F64 { DType::F64 } else { DType::F32 };
        let matrix = |tensor: &Tensor| -> Result<Tensor> {
            Ok(tensor.to_device(&Device::Cpu)?.to_dtype(wide)?.contiguous()?)
        };
        let delta = (matrix(b)?.matmul(&matrix(a)?)? * *scale)?;
        Ok((tensor.to_dtype(wide)? + delta)?.to_dtype(stored)?)
    }
}
