//! Fused differentiable operations with hand-written backward passes.
//!
//! Common to all of them:
//!
//! - CPU tensors of `f32` or `f64` run the fused kernels, CUDA tensors of `f32` or `bf16` those of
//!   `vxf-cuda`, where they exist; anything else runs the composition of the same name in
//!   [`crate::compose`].
//! - No gradient is computed for untracked operands (see [`Tensor::track_op`]): the operation
//!   captures them, or returns nothing for them, and they get no entry in candle's `GradStore`.
//! - Operands may have any layout; results and gradients are contiguous.
//! - Operands of one call have the same element type. Wrong shapes are errors that name the shapes.
//! - Work is shared among the threads of rayon's current pool. The same call on a pool of the same
//!   size gives the same bits.

mod attention;
mod bias;
mod cross_entropy;
mod embedding;
mod layer_norm;
mod linear;
mod lora;
mod mask;
mod relu;
mod rms_norm;
mod rotary;
mod scale;
mod stack;
mod swiglu;
mod weight;

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};

pub use attention::{Heads, KeyValues, Limits, attend, attend_cached, attention};
pub use bias::add_bias;
pub use cross_entropy::linear_cross_entropy;
pub use embedding::embedding;
pub use layer_norm::layer_norm;
pub use linear::{Values, linear, linear_unread};
pub use lora::{Layer, lora_linear, lora_linears};
pub use mask::masked;
pub use relu::relu;
pub use rms_norm::{add_rms_norm, rms_norm};
pub use rotary::{rotary, split_heads};
pub use scale::scaled;
pub use stack::stacked;
pub use swiglu::{geglu, swiglu, swiglu_joint};
pub use weight::{Matrix, Weight};

pub use crate::compose::capped;

pub(crate) use attention::Dims as AttentionDims;
pub(crate) use cross_entropy::labelled_rows;
#[cfg(feature = "cuda")]
pub(crate) use linear::Sizes;
pub(crate) use weight::Buffer;

use crate::kernel::Real;

/// Runs an expression with `$T` as the CPU type of a dtype, or returns an error.
macro_rules! by_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("no fused kernel for the dtype {other:?}"),
        }
    };
}
pub(crate) use by_dtype;

/// Whether layers of this input can be joined in one product, by the fused CPU kernels.
pub fn joins(x: &Tensor) -> bool {
    fused(x)
}

/// Whether the fused CPU kernels support this tensor.
fn fused(x: &Tensor) -> bool {
    matches!(x.device(), Device::Cpu) && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// Checks that the operands of an operation have one floating-point dtype and one device.
fn same_kind(op: &str, operands: &[&Tensor]) -> Result<()> {
    let Some((first, rest)) = operands.split_first() else {
        return Ok(());
    };
    if !first.dtype().is_float() {
        bail!("{op}: operands of the dtype {:?}, which has no gradients", first.dtype());
    }
    for other in rest {
        if other.dtype() != first.dtype() {
            bail!("{op}: operands of dtypes {:?} and {:?}", first.dtype(), other.dtype());
        }
        if !other.device().same_device(first.device()) {
            bail!("{op}: operands on different devices");
        }
    }
    Ok(())
}

/// An operand, detached and contiguous, to be captured or read.
fn frozen(x: &Tensor) -> Result<Tensor> {
    x.detach().contiguous()
}

/// The read lock on a contiguous CPU tensor's elements.
struct Flat<S> {
    storage: S,
    start: usize,
    end: usize,
}

/// Locks the elements of a contiguous CPU tensor for reading.
fn flat(x: &Tensor) -> Result<Flat<impl Deref<Target = Storage> + '_>> {
    let (storage, layout) = x.storage_and_layout();
    let (start, end) = span(layout)?;
    Ok(Flat { storage, start, end })
}

impl<S: Deref<Target = Storage>> Flat<S> {
    /// The elements.
    fn slice<T: Real>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<T>()?[self.start..self.end]),
            _ => bail!("a fused CPU kernel was given a tensor on another device"),
        }
    }

    /// The elements of a u8 tensor.
    fn bytes(&self) -> Result<&[u8]> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<u8>()?[self.start..self.end]),
            _ => bail!("a fused CPU kernel was given a tensor on another device"),
        }
    }
}

/// The elements of a contiguous forward operand.
fn elements<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let (start, end) = span(layout)?;
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// The range of a contiguous layout in its storage.
fn span(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(span) => Ok(span),
        None => bail!("a fused kernel was given a strided operand of shape {:?}", layout.shape()),
    }
}

/// The output of a forward pass.
fn output<T: Real>(values: Vec<T>, shape: &Shape) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(values), shape.clone())
}

/// Makes a CPU tensor of a gradient without copying it.
fn gradient<T: Real>(values: Vec<T>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)
}

/// Splits a shape into the product of its leading sizes and its last size.
fn rows_of(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.dims() {
        [leading @ .., last] => Ok((leading.iter().product(), *last)),
        [] => bail!("{op}: expected at least one dimension, got a scalar"),
    }
}

/// The shape of `x` with its last size replaced.
fn with_last(x: &Tensor, last: usize) -> Shape {
    let mut dims = x.dims().to_vec();
    if let Some(size) = dims.last_mut() {
        *size = last;
    }
    Shape::from(dims)
}
