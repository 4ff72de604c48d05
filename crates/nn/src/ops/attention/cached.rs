//! Attention of new positions over keys and values that are kept.

use std::any::Any;

use candle_core::{Result, Shape, Tensor, bail};
use vxf_tensor::Rows;

use super::dense::{Dense, Heads, Sizes};
use crate::kernel::Real;
use crate::ops::{by_dtype, flat, fused, gradient, same_kind};

/// Positions that there is room for at least.
const ROOM: usize = 64;

/// Keys and values of the positions that a decoder has seen in one layer, on the CPU.
#[derive(Default)]
pub struct KeyValues {
    /// A [`Store`] of the elements' type.
    store: Option<Box<dyn Any + Send>>,
}

/// Keys and values, `[samples, kv heads, room, d]` each, as far as each sample has come.
struct Store<T> {
    room: usize,
    keys: Vec<T>,
    values: Vec<T>,
}

impl<T: Real> Store<T> {
    /// The same with room for `least` positions; each of `heads` has `width` elements a position.
    fn with_room(mut self, least: usize, heads: usize, width: usize) -> Self {
        if self.room >= least {
            return self;
        }
        let room = least.next_power_of_two().max(ROOM);
        for kept in [&mut self.keys, &mut self.values] {
            let mut wider = vec![T::ZERO; heads * room * width];
            if self.room > 0 {
                let heads = wider.chunks_mut(room * width).zip(kept.chunks(self.room * width));
                heads.for_each(|(wider, kept)| wider[..kept.len()].copy_from_slice(kept));
            }
            *kept = wider;
        }
        Self { room, ..self }
    }
}

/// Attends from new rows to themselves and to the earlier positions in `cache`, which the new ones join.
///
/// As [`attend`](fn@super::attend), for rows [behind](Rows::after) as many positions as the cache has seen
/// of each sample. Takes f32 and f64 on the CPU, and has no gradient.
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
        bail!(
            "attend_cached: {} samples, of which each must have new rows on the CPU",
            rows.samples()
        );
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

    let store = cache.store.take().and_then(|store| store.downcast::<Store<T>>().ok());
    let store = store.map_or(Store { room: 0, keys: Vec::new(), values: Vec::new() }, |it| *it);
    let mut store = store.with_room(rows.furthest(), rows.samples() * kv_heads, d);
    if store.keys.len() != rows.samples() * kv_heads * store.room * d {
        bail!("attend_cached: {} samples where the cache has others", rows.samples());
    }
    let room = store.room;
    for (index, (sample, past)) in dense.attention.samples.iter_mut().zip(rows.past()).enumerate() {
        let (len, start) = (sample.sight.len, index * kv_heads * room * d);
        for head in 0..kv_heads {
            let (from, to) = (head * len * d, start + (head * room + past) * d);
            store.keys[to..][..len * d].copy_from_slice(&split[sample.k + from..][..len * d]);
            store.values[to..][..len * d].copy_from_slice(&split[sample.v + from..][..len * d]);
        }
        (sample.k, sample.v, sample.pitch) = (start, start, room * d);
    }
    let y = dense.attention.forward(&split, &store.keys, &store.values);
    cache.store = Some(Box::new(store));
    gradient(y, &Shape::from((rows.count(), queries * d)))
}
