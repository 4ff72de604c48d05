//! The update on a CUDA device: one kernel for each tensor, and nobody waits.

use candle_core::{DType, Tensor};

use super::Update;
use crate::{Params, Result};
use vxf_tensor::Scalar;

/// The launches of one step.
pub(super) struct Launches {
    /// Set by a launch that leaves a weight that is no number.
    broken: Tensor,
}

impl Launches {
    /// Launches for weights that lie on a CUDA device in `f32`; none for others.
    pub(super) fn on(weights: &Params) -> Result<Option<Self>> {
        let taken = |x: &Tensor| x.device().is_cuda() && x.dtype() == DType::F32;
        let Some((_, first)) = weights.iter().next() else { return Ok(None) };
        if !weights.iter().all(|(_, weight)| taken(weight)) {
            return Ok(None);
        }
        Ok(Some(Self { broken: Tensor::zeros(1, DType::U32, first.device())? }))
    }

    /// Moves a weight and its two moments, which decay by the number beside each.
    pub(super) fn update(
        &self,
        weight: &Tensor,
        [(first, beta1), (second, beta2)]: [(&Tensor, f64); 2],
        gradient: &Tensor,
        factor: f64,
        update: Update,
    ) -> Result<()> {
        let Update { shrink, size, root, epsilon } = update;
        let numbers = vxf_cuda::AdamW { factor, keep: [beta1, beta2], shrink, size, root, epsilon };
        let gradient = gradient.to_dtype(DType::F32)?;
        Ok(vxf_cuda::adamw([weight, first, second], &gradient, numbers, &self.broken)?)
    }

    /// Not zero if a weight is no number any more.
    pub(super) fn broken(self) -> Result<Scalar> {
        Ok(Scalar::of(&self.broken.squeeze(0)?)?)
    }
}
