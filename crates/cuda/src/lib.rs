//! CUDA kernels and their launches.
//!
//! Operands are tensors on a CUDA device, contiguous unless said otherwise. Nothing here builds a
//! graph: `vxf-nn` makes differentiable operations of these kernels, `vxf-tensor` the optimiser's
//! update and the norms. Element types are `f32` and `bf16`; sums are accumulated in at least
//! `f32`, in a fixed order.
//!
//! Without the feature `cuda` this crate is empty, so that the workspace builds without a CUDA
//! toolkit.
#![cfg(feature = "cuda")]

mod attention;
mod buffer;
mod device;
mod dropout;
mod elementwise;
mod entropy;
mod gemm;
mod launch;
mod memory;
mod norm;
mod reduce;
mod update;

pub use attention::{Attention, Sample, Samples, Strides, WIDEST, attention, attention_back};
pub use buffer::{Operand, tensor, with, zeros};
pub use device::{Facts, LOWEST, enter, facts, open};
pub use dropout::Dropout;
pub use elementwise::{
    add, add_masked, add_row, cast, heads, masked, relu, relu_back, scaled_by, swiglu, swiglu_back,
    turned,
};
pub use entropy::{cross_entropy, gathered, mean, scattered};
pub use gemm::{Side, product, product_into};
pub use memory::{free, free_and_total, out_of_memory, peak};
pub use norm::{
    add_rms_norm, layer_norm, layer_norm_back_gain, layer_norm_back_x, rms_norm,
    rms_norm_back_gain, rms_norm_back_x,
};
pub use reduce::{row_sum, squares, total};
pub use update::{AdamW, adamw};
