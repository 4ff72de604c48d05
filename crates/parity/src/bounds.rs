//! Bounds on deviations from the recordings, for each computing type.

use candle_core::DType;

use crate::report::Bound;

/// A computing type and its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The type of activations and frozen weights; trained weights are never narrower than f32.
    pub dtype: DType,
    pub(crate) logits: Bound,
    pub(crate) loss: Bound,
    pub(crate) tensor: Bound,
    pub(crate) fisher: Bound,
    pub(crate) norm: Bound,
    pub(crate) drift: Option<Bound>,
    pub(crate) parameters: Bound,
    pub(crate) parameters_off: Option<Bound>,
    pub(crate) parameter_norm: Bound,
}

impl Bounds {
    /// The bounds for 32-bit floats, the type of the recordings.
    pub const F32: Self = Self {
        dtype: DType::F32,
        logits: Bound::Absolute(1e-5),
        loss: Bound::Absolute(1e-5),
        tensor: Bound::Absolute(1e-5),
        fisher: Bound::Relative(1e-5),
        norm: Bound::Relative(1e-5),
        drift: Some(Bound::Relative(1e-4)),
        parameters: Bound::Rms(1e-5),
        parameters_off: Some(Bound::Share(1e-3)),
        parameter_norm: Bound::Relative(1e-5),
    };

    /// The same bounds for 64-bit floats, because the recordings have the precision of their own
    /// type.
    pub const F64: Self = Self { dtype: DType::F64, ..Self::F32 };

    /// The bounds for bfloat16, which rounds each activation by up to 0.4 %: about twice the
    /// largest deviations that were measured on a CPU and with the CUDA kernels.
    ///
    /// Deviations of tensors are relative to their norms, because an entry may be far smaller than
    /// the terms of its sum; a gradient without one of its terms would be off by about its norm.
    /// Parameters may be off by steps of the optimiser, which depend on the signs of gradients.
    /// Drift over a few steps is not compared: it is smaller than the rounding of the hidden
    /// embeddings.
    pub const BF16: Self = Self {
        dtype: DType::BF16,
        logits: Bound::Norm(4e-2),
        loss: Bound::Relative(1e-2),
        tensor: Bound::Norm(0.25),
        fisher: Bound::Norm(0.25),
        norm: Bound::Relative(0.1),
        drift: None,
        parameters: Bound::Rms(2e-3),
        parameters_off: None,
        parameter_norm: Bound::Relative(1e-2),
    };
}
