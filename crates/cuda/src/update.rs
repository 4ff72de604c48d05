//! AdamW's update.

use candle_core::{Result, Tensor};

use crate::buffer::with;
use crate::launch::{ADAMW, Launch};

/// The numbers of one update: the moments decay by `keep`; the weight decays and changes.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// The factor on the gradient.
    pub factor: f64,
    /// Decay of the two moments.
    pub keep: [f64; 2],
    /// The factor on the weight.
    pub shrink: f64,
    /// The step's size, bias correction of the first moment included.
    pub size: f64,
    /// The square root of the second moment's bias correction.
    pub root: f64,
    /// Added to the square root of the second moment.
    pub epsilon: f64,
}

/// Updates `[weight, first, second]`, `f32`, in place along `gradient`. Sets the single `u32` of
/// `broken` to 1 if a new weight is not finite.
///
/// # Errors
/// When a tensor is strided, on another device or of another type, or a launch fails.
pub fn adamw(
    [weight, first, second]: [&Tensor; 3],
    gradient: &Tensor,
    update: AdamW,
    broken: &Tensor,
) -> Result<()> {
    let AdamW { factor, keep: [keep1, keep2], shrink, size, root, epsilon } = update;
    with([weight, first, second, gradient, broken], |[weight, first, second, gradient, broken]| {
        let count = weight.count();
        Launch::of(weight.device(), ADAMW, "adamw", weight.dtype())?
            .buffers([weight, first, second, gradient])?
            .count(count)
            .single(factor)
            .single(keep1)
            .single(keep2)
            .single(1.0 - keep1)
            .single(1.0 - keep2)
            .single(shrink)
            .single(size)
            .single(root)
            .single(epsilon)
            .buffer(broken)?
            .over(count)
    })
}
