//! What layers and training loops need beyond candle.
//!
//! [`autograd`] is a backward tape for operations with hand-written gradients, [`adamw`] the
//! arithmetic of the optimiser, [`scalar`] a deferred scalar that stays on its device until it is
//! needed, [`quantized`] frozen matrices in few bits, [`numeric`] sums, norms and finite checks in a fixed order, [`processor`] SIMD dispatch,
//! [`rng`] keyed randomness, [`mask`] dropout masks, [`rows`] the index of the rows of a batch,
//! [`device`] out-of-memory errors. This crate does not know models, layers or training.

pub mod adamw;
pub mod autograd;
pub mod device;
pub mod mask;
pub mod numeric;
pub mod processor;
pub mod quantized;
pub mod rng;
pub mod rows;
pub mod scalar;

pub use candle_core::{Error, Result};
pub use mask::Mask;
pub use quantized::Quantized;
pub use rng::Key;
pub use rows::Rows;
pub use scalar::Scalar;
