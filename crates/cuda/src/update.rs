//! AdamW's update.

use candle_core::{Result, Tensor};

use crate::buffer::with;
use crate::launch::{ADAMW, Launch};

/// The numbers of one update: `first` and `second` decay by `keep`, the weight shrinks and moves.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// What the gradient is multiplied by.
    pub factor: f64,
    /// Decay of the two moments.
    pub keep: [f64; 2],
    /// What the weight is multiplied by.
    pub shrink: f64,
    /// The step's size, bias correction of the first moment included.
    pub size: f64,
    /// The root of the second moment's bias correction.
    pub root: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// Moves `[weight, first, second]`, `f32`, in place along `gradient`, and sets the one `u32` of `broken`
/// if a weight is no number any more.
///
/// # Errors
/// When a tensor is strided, elsewhere or of another type, or a launch fails.
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
