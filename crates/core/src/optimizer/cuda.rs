//! The update on a CUDA device: one kernel for each tensor, and nobody waits.

use candle_core::{DType, Tensor};

use super::{AdamW, Update};
use crate::scalar::Scalar;
use crate::{Error, Gradients, Params, Result};

impl AdamW {
    /// Moves the weights, if all of them lie on a CUDA device in `f32`; else leaves everything alone
    /// and says no.
    pub(super) fn on_cuda(
        &mut self,
        weights: &Params,
        gradients: &Gradients,
        factor: f64,
        rate: f64,
        update: Update,
    ) -> Result<bool> {
        let Some((_, first)) = weights.iter().next() else { return Ok(false) };
        let taken = |x: &Tensor| x.device().is_cuda() && x.dtype() == DType::F32;
        if gradients.is_empty() || !weights.iter().all(|(_, weight)| taken(weight)) {
            return Ok(false);
        }
        let flags = Tensor::zeros(gradients.len(), DType::U32, first.device())?;
        for (index, (name, gradient)) in gradients.iter().enumerate() {
            let missing = || Error::ParameterMismatch { name: name.to_owned() };
            let weight = weights.get(name).ok_or_else(missing)?;
            let first = self.first.get(name).ok_or_else(missing)?;
            let second = self.second.get(name).ok_or_else(missing)?;
            let decayed = self.decayed.contains(name);
            let numbers = vxf_cuda::AdamW {
                factor,
                keep: [self.config.beta1, self.config.beta2],
                shrink: if decayed { 1.0 - rate * self.config.weight_decay } else { 1.0 },
                size: update.size,
                root: update.root,
                epsilon: update.epsilon,
            };
            let gradient = gradient.to_dtype(DType::F32)?.contiguous()?;
            vxf_cuda::adamw([weight, first, second], &gradient, numbers, (&flags, index))?;
        }
        self.broken = Scalar::of(&flags.to_dtype(DType::F64)?.sum_all()?)?;
        Ok(true)
    }
}
