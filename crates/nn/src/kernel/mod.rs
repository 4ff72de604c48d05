//! Slice-level helpers shared by the operations: number types, matrix products, row loops.

mod blocks;
mod exp;
mod gemm;
mod narrow;
mod real;
mod reduce;
mod small;
mod thin;
mod transpose;
mod view;

pub(crate) use blocks::{blocks, blocks2, filled, filled2, sum_over_rows, worth_sharing};
pub(crate) use gemm::{add_product, matmul, matmul_into, multiplied};
pub(crate) use narrow::{by_lanes, dots, fill};
pub(crate) use real::Real;
pub(crate) use reduce::{LANES, add_scaled, dot, exponentiate, largest, sum};
pub(crate) use thin::{Kept, masked_dots, masked_spread, outer_sum, spread};
pub(crate) use transpose::{transpose, transposed};
pub(crate) use view::View;
