//! Checks the fused operations against finite differences, their compositions and their
//! documentation.

mod common;
mod contract;
mod dense;
mod gradients;
mod mixed;
mod odd;
mod oracle;
mod quantized;
mod real;
mod repeatable;
