//! The update on the CPU: a weight and its moments in place, in one pass over memory, on all
//! threads.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, DType, Error, InplaceOp1, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

use super::Update;
use crate::vectorised;

/// Elements per work item.
const CHUNK: usize = 1 << 14;

/// The update of one weight on the CPU: `m <- beta1 * m + (1 - beta1) * g` and `v` likewise from `g * g`, then the
/// weight by both.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The factor on the gradient.
    pub factor: f64,
    /// Decays of the first and second moments.
    pub keep: [f64; 2],
    /// The update of the weight.
    pub update: Update,
}

impl Kernel {
    /// Updates contiguous tensors of one type in place. Returns whether the weight is still finite.
    ///
    /// # Errors
    /// When shapes or types differ, or a tensor is not contiguous or not on the CPU.
    pub fn apply(&self, weight: &Tensor, moments: [&Tensor; 2], gradient: &Tensor) -> Result<bool> {
        match weight.dtype() {
            DType::F32 => self.applied::<f32>(weight, moments, gradient),
            DType::F64 => self.applied::<f64>(weight, moments, gradient),
            other => Err(Error::Msg(format!("AdamW keeps weights in F32 or F64, not {other:?}"))),
        }
    }

    fn applied<T: Float>(
        &self,
        weight: &Tensor,
        [first, second]: [&Tensor; 2],
        gradient: &Tensor,
    ) -> Result<bool> {
        if let Some(other) = [first, second, gradient].iter().find(|x| x.shape() != weight.shape())
        {
            let (found, expected) = (other.dims(), weight.dims());
            let message =
                format!("AdamW: a gradient or moment is {found:?}, its weight {expected:?}");
            return Err(Error::Msg(message));
        }
        // A method may return a weight as its own gradient, which cannot be read while it is
        // written.
        let gradient = match same_storage(weight, gradient) {
            true => gradient.copy()?,
            false => gradient.clone(),
        };
        let (storage, layout) = gradient.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(Error::Msg(
                "AdamW: a weight on the CPU has its gradient on another device".into(),
            ));
        };
        let gradient = &storage.as_slice::<T>()?[range(layout)?];
        let mut finite = true;
        write(weight, |weight| {
            write(first, |first| {
                write(second, |second| {
                    finite = self.moved(weight, first, second, gradient);
                    Ok(())
                })
            })
        })?;
        Ok(finite)
    }

    fn moved<T: Float>(&self, w: &mut [T], m: &mut [T], v: &mut [T], gradient: &[T]) -> bool {
        let factor = T::of(self.factor);
        let [beta1, beta2] = self.keep.map(T::of);
        let [rest1, rest2] = self.keep.map(|keep| T::of(1.0 - keep));
        let Update { shrink, size, root, epsilon } = self.update;
        let [shrink, size, root, epsilon] = [shrink, size, root, epsilon].map(T::of);
        let finite = AtomicBool::new(true);
        let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        let chunks = w.par_chunks_mut(CHUNK).zip(moments).zip(gradient.par_chunks(CHUNK));
        chunks.for_each(|((w, (m, v)), gradient)| {
            vectorised!({
                // No branch in the loop, so that it vectorises; the check needs no pass of its own.
                let mut all = true;
                for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(gradient) {
                    let g = g * factor;
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * (g * g);
                    *w = *w * shrink - size * (*m / (v.root() / root + epsilon));
                    all &= w.finite();
                }
                if !all {
                    finite.store(false, Ordering::Relaxed);
                }
            });
        });
        finite.into_inner()
    }
}

/// Whether two tensors have the same storage.
fn same_storage(a: &Tensor, b: &Tensor) -> bool {
    let place = |x: &Tensor| std::ptr::from_ref(&*x.storage_and_layout().0);
    place(a) == place(b)
}

/// Calls `work` with the elements of a contiguous CPU tensor, for in-place changes.
fn write<T: Float>(tensor: &Tensor, work: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Write(Cell::new(Some(work)), PhantomData))
}

/// The in-place operation of [`write`], which candle calls once.
struct Write<T, F>(Cell<Option<F>>, PhantomData<T>);

impl<T: Float, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Write<T, F> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let range = range(layout)?;
        match (self.0.take(), T::of_storage(storage)) {
            (Some(work), Some(values)) => work(&mut values[range]),
            _ => Err(Error::Msg("AdamW: a weight and its moments differ in type".into())),
        }
    }
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("AdamW needs contiguous tensors".into()))?;
    Ok(start..end)
}

/// The operations of both element types.
trait Float:
    candle_core::WithDType
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    fn of(value: f64) -> Self;
    fn root(self) -> Self;
    fn finite(self) -> bool;
    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

impl Float for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
}

impl Float for f64 {
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }
}
