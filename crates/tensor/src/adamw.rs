//! The arithmetic of AdamW: updates one weight and its two moments in place.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Tensor, Var};

pub use cpu::Kernel;
#[cfg(feature = "cuda")]
pub use cuda::Launches;

/// `w <- shrink * w - size * m / (sqrt(v) / root + epsilon)`.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The factor of decoupled weight decay.
    pub shrink: f64,
    /// The learning rate over the bias correction of the first moment.
    pub size: f64,
    /// The square root of the bias correction of the second moment.
    pub root: f64,
    /// Added to the square root of the second moment.
    pub epsilon: f64,
}

impl Update {
    /// Applies the update with candle operations, for devices that have no kernel of ours.
    ///
    /// # Errors
    /// When shapes or types differ.
    pub fn compose(&self, weight: &Tensor, first: &Tensor, second: &Tensor) -> Result<()> {
        let direction = (first / ((second.sqrt()? / self.root)? + self.epsilon)?)?;
        let moved = ((weight.detach() * self.shrink)? - (direction * self.size)?)?;
        Var::from_tensor(weight)?.set(&moved)
    }
}
