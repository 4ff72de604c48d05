//! The weight of a linear layer: dense, or in few bits.

use std::cell::RefCell;
use std::thread::LocalKey;

use candle_core::{DType, Result, Tensor, Var};
use vxf_tensor::Quantized;

use super::{flat, frozen};
use crate::kernel::Real;

/// A weight `[out, in]` that a layer has.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// A tensor.
    Dense(Tensor),
    /// Frozen, in few bits. It is dequantised for each product, into a buffer that all products of a thread
    /// share.
    Quantized(Quantized),
}

/// A weight `[out, in]` that an operation is given.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// A tensor, which gets a gradient if it is tracked.
    Dense(&'a Tensor),
    /// A frozen matrix in few bits.
    Quantized(&'a Quantized),
}

impl<'a> From<&'a Tensor> for Weight<'a> {
    fn from(w: &'a Tensor) -> Self {
        Self::Dense(w)
    }
}

impl<'a> From<&'a Var> for Weight<'a> {
    fn from(w: &'a Var) -> Self {
        Self::Dense(w.as_tensor())
    }
}

impl<'a> From<&'a Quantized> for Weight<'a> {
    fn from(w: &'a Quantized) -> Self {
        Self::Quantized(w)
    }
}

impl<'a> From<&'a Matrix> for Weight<'a> {
    fn from(w: &'a Matrix) -> Self {
        match w {
            Matrix::Dense(w) => Self::Dense(w),
            Matrix::Quantized(w) => Self::Quantized(w),
        }
    }
}

impl Weight<'_> {
    /// `[out, in]`, or what a tensor of the wrong rank has instead.
    pub(super) fn dims(&self) -> Vec<usize> {
        match self {
            Self::Dense(w) => w.dims().to_vec(),
            Self::Quantized(w) => w.dims().to_vec(),
        }
    }

    /// The weight without its graph, to be captured.
    pub(crate) fn held(self) -> Result<Matrix> {
        Ok(match self {
            Self::Dense(w) => Matrix::Dense(frozen(w)?),
            Self::Quantized(w) => Matrix::Quantized(w.clone()),
        })
    }

    /// As a tensor, without its graph.
    pub(crate) fn dense(self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Dense(w) => Ok(w.detach()),
            Self::Quantized(w) => w.dense(dtype),
        }
    }
}

impl Matrix {
    /// `[out, in]`.
    pub fn dims(&self) -> Vec<usize> {
        Weight::from(self).dims()
    }

    /// The weight as a tensor of `dtype`; a dense one as it is.
    ///
    /// # Errors
    ///
    /// When the device is full.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Dense(w) => Ok(w.clone()),
            Self::Quantized(w) => w.dense(dtype),
        }
    }

    /// Calls `work` with the numbers of a weight on the CPU, row by row.
    pub(super) fn read<T: Real, R>(&self, work: impl FnOnce(&[T]) -> R) -> Result<R> {
        match self {
            Self::Dense(w) => Ok(work(flat(w)?.slice()?)),
            Self::Quantized(w) => {
                let count = w.dims().iter().product();
                // Taken out, so that a nested call would get a buffer of its own.
                let mut buffer = T::buffer().take();
                if buffer.len() < count {
                    buffer.resize(count, T::ZERO);
                }
                let filled = w.fill(&mut buffer[..count]);
                let result = filled.map(|()| work(&buffer[..count]));
                T::buffer().set(buffer);
                result
            }
        }
    }
}

/// The buffer of a thread for dequantised weights. It keeps the size of the largest one.
pub(crate) type Buffer<T> = &'static LocalKey<RefCell<Vec<T>>>;
