//! Attention with a key-value cache on the CPU.

use std::any::Any;

use candle_core::{Result, Shape, Tensor, bail};
use vxf_tensor::Rows;

use super::dense::{Dense, Heads, Sizes};
use crate::kernel::Real;
use crate::ops::{by_dtype, flat, fused, gradient, same_kind};

/// The smallest capacity, in positions.
const MIN_CAPACITY: usize = 64;

/// The key-value cache of one layer.
#[derive(Default)]
pub struct KeyValues {
    /// A [`Store`] of the elements' type.
    store: Option<Box<dyn Kept>>,
}

impl KeyValues {
    /// Forgets all of the `of` samples but these, in ascending order.
    pub fn keep(&mut self, samples: &[usize], of: usize) {
        if let Some(store) = &mut self.store {
            store.keep(samples, of);
        }
    }
}

/// A store of any type of elements.
trait Kept: Any + Send {
    fn keep(&mut self, samples: &[usize], of: usize);
}

impl<T: Real> Kept for Store<T> {
    fn keep(&mut self, samples: &[usize], of: usize) {
        for kept in [&mut self.keys, &mut self.values] {
            let size = kept.len() / of;
            for (to, from) in samples.iter().enumerate() {
                kept.copy_within(from * size..(from + 1) * size, to * size);
            }
            kept.truncate(samples.len() * size);
        }
    }
}

/// Keys and values, `[samples, kv heads, capacity, d]` each; each sample has its own length.
struct Store<T> {
    capacity: usize,
    keys: Vec<T>,
    values: Vec<T>,
}

impl<T: Real> Store<T> {
    /// Grows to at least `least` positions of `heads` heads of `width` elements.
    fn with_capacity(mut self, least: usize, heads: usize, width: usize) -> Self {
        if self.capacity >= least {
            return self;
        }
        let capacity = least.next_power_of_two().max(MIN_CAPACITY);
        for kept in [&mut self.keys, &mut self.values] {
            let mut wider = vec![T::ZERO; heads * capacity * width];
            if self.capacity > 0 {
                let heads =
                    wider.chunks_mut(capacity * width).zip(kept.chunks(self.capacity * width));
                heads.for_each(|(wider, kept)| wider[..kept.len()].copy_from_slice(kept));
            }
            *kept = wider;
        }
        Self { capacity, ..self }
    }
}

/// Attends from new rows to the positions in `cache` and to themselves, and adds them to the cache.
///
/// This is [`attend`](fn@super::attend) for rows [after](Rows::after) the positions of each sample that the
/// cache has. It supports f32 and f64 on the CPU, and has no gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not fit each other.
pub fn attend_cached(
    x: &[&Tensor],
    heads: &Heads,
    rows: &Rows,
    cache: &mut KeyValues,
) -> Result<Tensor> {
    same_kind("attend_cached", x)?;
    let sizes = Sizes::new(x, heads, rows)?;
    if !x.iter().all(|x| fused(x)) || rows.ranges().any(|range| range.is_empty()) {
        bail!("attend_cached: needs a new row of each of {} samples, on the CPU", rows.samples());
    }
    let x = x.iter().map(|x| x.detach().contiguous()).collect::<Result<Vec<_>>>()?;
    by_dtype!(x[0].dtype(), T => run::<T>(&x, sizes, heads, rows, cache))
}

fn run<T: Real>(
    x: &[Tensor],
    sizes: Sizes,
    heads: &Heads,
    rows: &Rows,
    cache: &mut KeyValues,
) -> Result<Tensor> {
    let Sizes { heads: queries, kv_heads, d, .. } = sizes;
    let mut dense = Dense::new(sizes, heads, rows)?;
    let locked = x.iter().map(flat).collect::<Result<Vec<_>>>()?;
    let at = |index: usize| locked[index.min(locked.len() - 1)].slice::<T>();
    let split = dense.split([at(0)?, at(1)?, at(2)?])?;

    let store = cache.store.take().map(|store| -> Box<dyn Any> { store });
    let store = store.and_then(|store| store.downcast::<Store<T>>().ok());
    let store = store.map_or(Store { capacity: 0, keys: Vec::new(), values: Vec::new() }, |it| *it);
    let mut store = store.with_capacity(rows.furthest(), rows.samples() * kv_heads, d);
    if store.keys.len() != rows.samples() * kv_heads * store.capacity * d {
        bail!("attend_cached: {} samples where the cache has others", rows.samples());
    }
    let capacity = store.capacity;
    for (index, (sample, past)) in dense.attention.samples.iter_mut().zip(rows.past()).enumerate() {
        let (len, start) = (sample.sight.len, index * kv_heads * capacity * d);
        for head in 0..kv_heads {
            let (from, to) = (head * len * d, start + (head * capacity + past) * d);
            store.keys[to..][..len * d].copy_from_slice(&split[sample.k + from..][..len * d]);
            store.values[to..][..len * d].copy_from_slice(&split[sample.v + from..][..len * d]);
        }
        (sample.k, sample.v, sample.pitch) = (start, start, capacity * d);
    }
    let y = dense.attention.forward(&split, &store.keys, &store.values);
    cache.store = Some(Box::new(store));
    gradient(y, &Shape::from((rows.count(), queries * d)))
}
