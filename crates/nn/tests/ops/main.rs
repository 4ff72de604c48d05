//! The fused operations against finite differences, against their compositions, and against what
//! their documentation promises.

mod common;
mod contract;
mod gradients;
mod mixed;
mod odd;
mod oracle;
mod real;
mod repeatable;
