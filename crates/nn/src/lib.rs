//! Differentiable fused operations for training and serving transformer decoders on candle.
//!
//! [`ops`] holds candle custom operations with exact hand-written backward passes: their CPU
//! kernels run in `f32` and `f64`, those for CUDA in `f32` and `bf16`, and tensors of any other
//! element type or device take the slow way. [`compose`] is that slow way: the same functions made of stock differentiable candle
//! operations, which is also what the tests compare against.
//!
//! Nothing here knows a model or a defence.

pub mod compose;
#[cfg(feature = "cuda")]
mod cuda;
mod kernel;
pub mod ops;
