//! The update on a CUDA device: one kernel launch per tensor, without waiting for the device.

use candle_core::{DType, Result, Tensor};

use super::Update;
use crate::Scalar;

/// The kernel launches of one step.
#[derive(Debug)]
pub struct Launches {
    /// Set by a launch that leaves a weight that is not finite.
    non_finite: Tensor,
}

impl Launches {
    /// Prepares launches for `f32` weights on a CUDA device. Returns `None` for any others.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn on<'a>(weights: impl IntoIterator<Item = &'a Tensor>) -> Result<Option<Self>> {
        let taken = |x: &Tensor| x.device().is_cuda() && x.dtype() == DType::F32;
        let mut weights = weights.into_iter();
        let Some(first) = weights.next().filter(|first| taken(first)) else { return Ok(None) };
        if !weights.all(taken) {
            return Ok(None);
        }
        Ok(Some(Self { non_finite: Tensor::zeros(1, DType::U32, first.device())? }))
    }

    /// Updates a weight and its two moments; each moment comes with its decay.
    ///
    /// # Errors
    /// When shapes or types differ.
    pub fn update(
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
        vxf_cuda::adamw([weight, first, second], &gradient, numbers, &self.non_finite)
    }

    /// Returns a scalar that is not zero if a weight is not finite.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn non_finite(self) -> Result<Scalar> {
        Scalar::of(&self.non_finite.squeeze(0)?)
    }
}
