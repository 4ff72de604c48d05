//! Differentiable fused operations for training and serving transformer decoders on candle.
//!
//! [`ops`] holds candle custom operations with exact hand-written backward passes: their CPU
//! kernels run in `f32` and `f64`, those for CUDA in `f32` and `bf16`, and tensors of any other
//! element type or device use the slow form. [`compose`] is the slow form: the same functions
//! composed of candle's differentiable operations. Tests compare the two.
//!
//! This crate does not know models or defences.

pub mod compose;
#[cfg(feature = "cuda")]
mod cuda;
mod kernel;
pub mod ops;
