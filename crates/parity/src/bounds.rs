//! How far each quantity may be from its recording, for each type to compute in.

use candle_core::DType;

use crate::report::Bound;

/// A type to compute in, and how far what is computed in it may be from the recordings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// What activations and frozen weights are held in; what is trained is never narrower than f32.
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
    /// What 32-bit floats keep of recordings made in them.
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

    /// The same for 64-bit floats: the recordings are no more exact than their own type.
    pub const F64: Self = Self { dtype: DType::F64, ..Self::F32 };

    /// bfloat16 rounds each activation by up to 0.4 %, and a gradient is made of many: about twice the
    /// largest deviations that were seen, on a CPU and by the CUDA kernels.
    ///
    /// Tensors are held against their norms, as an entry may be far smaller than what its sum is made
    /// of; a gradient that lacked a term would be off by about as much as its norm. Parameters may be
    /// off by steps of the optimiser, whose sign is that of a gradient. The drift of a few steps is
    /// smaller than the rounding of what it is the change of, so it is not compared.
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
