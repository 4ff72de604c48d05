//! The element types of the CPU kernels.

use std::cell::RefCell;
use std::ops::Neg;

use candle_core::WithDType;
use vxf_tensor::quantized::Number;

use super::exp::exp_f32;
use super::transpose::{self, Square};
use crate::ops::Buffer;

/// A CPU floating-point type with the few functions that the kernels need.
pub(crate) trait Real: WithDType + Neg<Output = Self> + Number {
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Minus infinity, the neutral element of the maximum.
    const LOWEST: Self;
    /// Scores this far below the largest have negligible probabilities.
    const NEGLIGIBLE: Self;

    /// The nearest value to an `f64`.
    fn of(value: f64) -> Self;
    /// The same value as an `f64`.
    fn wide(self) -> f64;
    /// `e^self`, in a form that vectorises if the type has one.
    fn fast_exp(self) -> Self;
    /// The square root.
    fn root(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The buffer of this thread for dequantised weights.
    fn buffer() -> Buffer<Self>;
    /// `self + a b`, rounded once.
    ///
    /// One instruction where the caller is [`vectorised`](vxf_tensor::vectorised) and the processor
    /// has FMA; elsewhere the same bits, slowly.
    fn plus_product(self, a: Self, b: Self) -> Self;

    /// Transposes a square of elements.
    #[inline(always)]
    fn transpose_square(square: Square<Self>) -> Square<Self> {
        transpose::transpose_square(square)
    }

    /// `1 / (1 + e^-self)`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // For very negative x, e^-x overflows to infinity, and the result is the correct limit 0.
        Self::ONE / (Self::ONE + (-self).fast_exp())
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f32::NEG_INFINITY;
    const NEGLIGIBLE: Self = -60.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn fast_exp(self) -> Self {
        exp_f32(self)
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }

    fn buffer() -> Buffer<Self> {
        thread_local!(static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
        &BUFFER
    }

    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        a.mul_add(b, self)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn transpose_square(square: Square<Self>) -> Square<Self> {
        match pulp::x86::V3::try_new() {
            Some(simd) => transpose::transpose_square_avx(simd, square),
            None => transpose::transpose_square(square),
        }
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f64::NEG_INFINITY;
    const NEGLIGIBLE: Self = -600.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn fast_exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }

    fn buffer() -> Buffer<Self> {
        thread_local!(static BUFFER: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) });
        &BUFFER
    }

    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        a.mul_add(b, self)
    }
}
