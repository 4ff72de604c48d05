//! Slice-level helpers shared by the operations: number types, matrix products, row loops.

mod exp;
mod gemm;
mod microkernel;
mod parallel;
mod rank_k;
mod real;
mod reduce;
mod skinny;
mod transpose;
mod view;

pub(crate) use gemm::{add_product, matmul, matmul_into, multiplied};
pub(crate) use parallel::{blocks, blocks2, filled, filled2, sum_over_rows, worth_sharing};
pub(crate) use rank_k::{Kept, masked_dots, masked_spread, outer_sum, spread};
pub(crate) use real::Real;
pub(crate) use reduce::{LANES, add_scaled, dot, exponentiate, largest, soften, sum};
pub(crate) use skinny::{by_lanes, dots, fill};
pub(crate) use transpose::{transpose, transposed};
pub(crate) use view::View;
