//! The update on the CPU: moments, then weights, each in place and on all threads.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout};
use rayon::prelude::*;

use super::Update;

/// Elements that a thread moves at a time.
const CHUNK: usize = 1 << 14;

/// `m <- keep * m + (1 - keep) * g`, with `g` or its square.
pub(super) struct Moment {
    pub(super) keep: f64,
    pub(super) factor: f64,
    pub(super) square: bool,
}

impl Moment {
    fn apply<T: Float>(&self, moment: &mut [T], gradient: &[T]) {
        let (keep, rest) = (T::of(self.keep), T::of(1.0 - self.keep));
        let factor = T::of(self.factor);
        let chunks = moment.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        chunks.for_each(|(moment, gradient)| {
            for (moment, &gradient) in moment.iter_mut().zip(gradient) {
                let gradient = gradient * factor;
                let value = if self.square { gradient * gradient } else { gradient };
                *moment = keep * *moment + rest * value;
            }
        });
    }
}

impl InplaceOp2 for Moment {
    fn name(&self) -> &'static str {
        "adamw-moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        own: &Layout,
        gradient: &CpuStorage,
        other: &Layout,
    ) -> candle_core::Result<()> {
        use CpuStorage::{F32, F64};
        match (moment, gradient) {
            (F32(m), F32(g)) => self.apply(part_mut(m, own)?, part(g, other)?),
            (F64(m), F64(g)) => self.apply(part_mut(m, own)?, part(g, other)?),
            (m, _) => return Err(unsupported(m)),
        }
        Ok(())
    }
}

/// An update, and whether it left a weight that is no number.
pub(super) struct Kernel<'a> {
    pub(super) update: Update,
    pub(super) broken: &'a AtomicBool,
}

impl Kernel<'_> {
    fn apply<T: Float>(&self, weight: &mut [T], first: &[T], second: &[T]) {
        let Update { shrink, size, root, epsilon } = self.update;
        let (shrink, size) = (T::of(shrink), T::of(size));
        let (root, epsilon) = (T::of(root), T::of(epsilon));
        let moments = first.par_chunks(CHUNK).zip(second.par_chunks(CHUNK));
        weight.par_chunks_mut(CHUNK).zip(moments).for_each(|(weight, (first, second))| {
            // Without a branch inside, so that it stays vector code: the check costs no pass of
            // its own.
            let mut finite = true;
            for ((weight, &first), &second) in weight.iter_mut().zip(first).zip(second) {
                *weight = *weight * shrink - size * (first / (second.root() / root + epsilon));
                finite &= weight.finite();
            }
            if !finite {
                self.broken.store(true, Ordering::Relaxed);
            }
        });
    }
}

impl InplaceOp3 for Kernel<'_> {
    fn name(&self) -> &'static str {
        "adamw-update"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        own: &Layout,
        first: &CpuStorage,
        layout1: &Layout,
        second: &CpuStorage,
        layout2: &Layout,
    ) -> candle_core::Result<()> {
        use CpuStorage::{F32, F64};
        match (weight, first, second) {
            (F32(w), F32(m), F32(v)) => {
                self.apply(part_mut(w, own)?, part(m, layout1)?, part(v, layout2)?);
            }
            (F64(w), F64(m), F64(v)) => {
                self.apply(part_mut(w, own)?, part(m, layout1)?, part(v, layout2)?);
            }
            (w, _, _) => return Err(unsupported(w)),
        }
        Ok(())
    }
}

fn unsupported(storage: &CpuStorage) -> candle_core::Error {
    use candle_core::backend::BackendStorage;
    let found = storage.dtype();
    candle_core::Error::Msg(format!(
        "AdamW keeps weights in {:?} or F64, not {found:?}",
        DType::F32
    ))
}

fn part<'a, T>(values: &'a [T], layout: &Layout) -> candle_core::Result<&'a [T]> {
    let (start, end) = range(layout)?;
    Ok(&values[start..end])
}

fn part_mut<'a, T>(values: &'a mut [T], layout: &Layout) -> candle_core::Result<&'a mut [T]> {
    let (start, end) = range(layout)?;
    Ok(&mut values[start..end])
}

fn range(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    let message = || candle_core::Error::Msg("AdamW needs contiguous tensors".into());
    layout.contiguous_offsets().ok_or_else(message)
}

/// The arithmetic both element types share.
trait Float:
    Copy
    + Send
    + Sync
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    fn of(value: f64) -> Self;
    fn root(self) -> Self;
    fn finite(self) -> bool;
}

impl Float for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn root(self) -> Self {
        self.sqrt()
    }
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn root(self) -> Self {
        self.sqrt()
    }
    fn finite(self) -> bool {
        self.is_finite()
    }
}
