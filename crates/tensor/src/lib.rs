//! The ground on which layers and training loops stand: candle, and what candle lacks for them.
//!
//! [`autograd`] is a backward tape for operations with hand-written gradients, [`scalar`] a number
//! that stays on its device until it is needed, [`numeric`] sums, norms and finite checks in a fixed
//! order, [`processor`] compiles loops for the vector instructions at hand, [`rng`] makes randomness
//! from keys. Nothing here knows a model, a layer or a training.

pub mod autograd;
pub mod numeric;
pub mod processor;
pub mod rng;
pub mod scalar;

pub use candle_core::{Error, Result};
pub use rng::Key;
pub use scalar::Scalar;
