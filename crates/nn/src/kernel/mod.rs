//! Slice-level helpers shared by the operations: number types, matrix products, row loops.

mod blocks;
mod exp;
mod gemm;
mod narrow;
mod real;
mod reduce;
mod thin;

pub(crate) use blocks::{
    blocks, blocks2, filled, filled2, for_this_processor, sum_over_rows, vectorised, worth_sharing,
};
pub(crate) use gemm::{View, add_product, matmul, matmul_into, multiplied, parallelism};
pub(crate) use narrow::{FEW, dots, fill, transposed};
pub(crate) use real::Real;
pub(crate) use reduce::{add_scaled, dot, exponentiate, largest, sum};
pub(crate) use thin::{outer_sum, spread};
