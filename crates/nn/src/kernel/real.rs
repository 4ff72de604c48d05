//! The element types that the CPU kernels are written for.

use std::ops::Neg;

use candle_core::WithDType;

use super::exp::exp_f32;
use super::transpose::{self, Square};

/// A CPU floating-point type with the few functions that the kernels need.
pub(crate) trait Real: WithDType + Neg<Output = Self> {
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Minus infinity, the neutral element of the maximum.
    const LOWEST: Self;
    /// Below the largest score by this much, a probability is nothing beside the others.
    const NEGLIGIBLE: Self;

    /// The nearest value to an `f64`.
    fn of(value: f64) -> Self;
    /// The same value as an `f64`.
    fn wide(self) -> f64;
    /// `e^self`, in a form that vectorises where the type has one.
    fn fast_exp(self) -> Self;
    /// The square root.
    fn root(self) -> Self;
    /// `self + a b`, rounded once.
    ///
    /// One instruction where the caller is [`vectorised`](vxf_tensor::vectorised) and the processor is of
    /// the last ten years; elsewhere the same bits, slowly.
    fn plus_product(self, a: Self, b: Self) -> Self;

    /// A square of elements transposed.
    #[inline(always)]
    fn turned(square: Square<Self>) -> Square<Self> {
        transpose::turned(square)
    }

    /// `1 / (1 + e^-self)`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // e^-x overflows to infinity for very negative x, whose reciprocal is the right limit 0.
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
    fn plus_product(self, a: Self, b: Self) -> Self {
        a.mul_add(b, self)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn turned(square: Square<Self>) -> Square<Self> {
        match pulp::x86::V3::try_new() {
            Some(simd) => transpose::turned_in_registers(simd, square),
            None => transpose::turned(square),
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
    fn plus_product(self, a: Self, b: Self) -> Self {
        a.mul_add(b, self)
    }
}
