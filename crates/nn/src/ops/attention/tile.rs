//! Computes scores, a tile of queries at a time.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::dims::Dims;
use crate::kernel::{
    LANES, Real, View, add_scaled, exponentiate, fill, matmul_into, transpose, worth_sharing,
};

/// Query rows whose scores are in memory at one time, for each active head.
pub(super) const TILE: usize = 64;

/// The operation with its sizes and one length for each batch row.
pub(super) struct Attention {
    pub(super) dims: Dims,
    /// The stride between heads of keys, or values.
    pub(super) pitch: usize,
    pub(super) lengths: Vec<usize>,
}

/// The queries of one tile: a batch row, a query head and the rows `first..first + rows`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) batch: usize,
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// The stride between rows of scores: whole vectors.
pub(super) fn pitch(keys: usize) -> usize {
    keys.next_multiple_of(LANES)
}

/// A product on the calling thread; the loops around it are parallel.
pub(super) fn product<T: Real>(out: &mut [T], add: bool, a: View<'_, T>, b: View<'_, T>) {
    matmul_into(out, add, T::ONE, a, b, Parallelism::None);
}

/// The buffers of a thread.
pub(super) struct Scratch<T> {
    pub(super) scores: Vec<T>,
    pub(super) transposed: Vec<T>,
}

impl<T: Real> Scratch<T> {
    pub(super) fn new(dims: &Dims) -> Self {
        let pitch = pitch(dims.keys);
        let scores = vec![T::ZERO; TILE.min(dims.len) * pitch];
        Self { scores, transposed: vec![T::ZERO; dims.d * pitch] }
    }
}

/// Transposes keys, or values, `[keys, d]` to `[d, pitch]`, padded with zeros.
pub(super) fn padded_transpose<'a, T: Real>(scratch: &'a mut [T], x: View<'_, T>) -> View<'a, T> {
    let (keys, d) = x.size();
    let pitch = pitch(keys);
    let scratch = &mut scratch[..d * pitch];
    vectorised!({
        scratch.chunks_exact_mut(pitch).for_each(|line| line[keys..].fill(T::ZERO));
        transpose(scratch, pitch, x);
    });
    View::new(scratch, d, pitch)
}

/// Masks the scores at `hidden` places of a vector.
#[inline(always)]
fn hide<T: Real>(vector: &mut [T; LANES], hidden: impl Fn(usize) -> bool) {
    for (at, score) in vector.iter_mut().enumerate() {
        *score = if hidden(at) { T::LOWEST } else { *score };
    }
}

impl Attention {
    /// The keys that a tile has scores for.
    pub(super) fn seen(&self, tile: Tile) -> Range<usize> {
        self.dims.seen(tile.first, tile.rows, self.lengths[tile.batch])
    }

    /// The rows of a tile's queries.
    pub(super) fn queries<'a, T: Real>(&self, q: &'a [T], tile: Tile) -> View<'a, T> {
        let Dims { heads, len, d, .. } = self.dims;
        let at = ((tile.batch * heads + tile.head) * len + tile.first) * d;
        View::new(&q[at..], tile.rows, d)
    }

    /// The rows of the keys, or values, that a tile sees.
    pub(super) fn context<'a, T: Real>(&self, k: &'a [T], tile: Tile) -> View<'a, T> {
        let Dims { heads, kv_heads, d, .. } = self.dims;
        let kv_head = tile.batch * kv_heads + tile.head / (heads / kv_heads);
        let seen = self.seen(tile);
        View::new(&k[kv_head * self.pitch + seen.start * d..], seen.len(), d)
    }

    /// Fills `scores`, rows of whole vectors, with a tile's unnormalised probabilities, calling `row` for
    /// each row and its sum.
    #[inline(always)]
    pub(super) fn probabilities<T: Real>(
        &self,
        tile: Tile,
        (scores, scratch): (&mut [T], &mut [T]),
        (q, k): (&[T], &[T]),
        mut row: impl FnMut(usize, &mut [T], T),
    ) {
        let (q, k) = (self.queries(q, tile), self.context(k, tile));
        let scale = T::of(self.dims.scale());
        let seen = self.seen(tile);
        if tile.rows == 1 {
            // One query of a decoder: transposing the keys would cost more than the product.
            let (d, scores) = (self.dims.d, &mut scores[..seen.len()]);
            vectorised!({
                fill(scores, &q.data()[..d], &k.data()[..scores.len() * d], 1, d);
                scores.iter_mut().for_each(|score| *score *= scale);
            });
        } else {
            matmul_into(scores, false, scale, q, padded_transpose(scratch, k), Parallelism::None);
        }
        vectorised!({
            for (i, scores) in scores.chunks_exact_mut(pitch(seen.len())).enumerate() {
                let sum = match self.dims.visible(tile.first + i, self.lengths[tile.batch]) {
                    Some(shown) => {
                        let (start, end) = (shown.start - seen.start, shown.end - seen.start);
                        // Whole vectors of scores; those of hidden keys are masked.
                        let (first, last) = (start - start % LANES, pitch(end));
                        let vectors = scores.as_chunks_mut::<LANES>().0;
                        hide(&mut vectors[first / LANES], |at| at < start - first);
                        hide(&mut vectors[last / LANES - 1], |at| at + last >= end + LANES);
                        scores[..first].fill(T::ZERO);
                        scores[last..].fill(T::ZERO);
                        exponentiate(&mut scores[first..last])
                    }
                    None => {
                        let (all, beyond) = scores.split_at_mut(seen.len());
                        all.fill(T::ONE);
                        beyond.fill(T::ZERO);
                        T::of(all.len() as f64)
                    }
                };
                row(i, scores, sum);
            }
        });
    }

    pub(super) fn forward<T: Real>(&self, q: &[T], k: &[T], v: &[T]) -> Vec<T> {
        let Dims { batch, heads, len, keys, d, .. } = self.dims;
        let width = heads * d;
        let mut out = vec![T::ZERO; batch * len * width];
        let mut tasks = Vec::new();
        for (row, out) in out.chunks_mut(len * width).enumerate() {
            let tiles = out.chunks_mut(TILE * width).enumerate();
            tasks.extend(tiles.map(|(i, out)| (row, i * TILE, out)));
        }
        let scratch = || (Scratch::new(&self.dims), vec![T::ZERO; TILE.min(len) * d]);
        let run = |(scratch, mixed): &mut (Scratch<T>, Vec<T>),
                   (batch, first, out): (_, _, &mut [T])| {
            let rows = out.len() / width;
            for head in 0..heads {
                let tile = Tile { batch, head, first, rows };
                let seen = self.seen(tile).len();
                let scores = &mut scratch.scores[..rows * pitch(seen)];
                let mut factors = [T::ZERO; TILE];
                self.probabilities(
                    tile,
                    (&mut *scores, &mut scratch.transposed),
                    (q, k),
                    #[inline(always)]
                    |i, _, sum| factors[i] = T::ONE / sum,
                );
                let mixed = &mut mixed[..rows * d];
                let context = self.context(v, tile);
                if rows == 1 {
                    mixed.fill(T::ZERO);
                    vectorised!({
                        for (&share, v) in scores[..seen].iter().zip(context.data().chunks_exact(d))
                        {
                            add_scaled(mixed, share, v);
                        }
                    });
                } else {
                    product(mixed, false, View::strided(scores, rows, seen, pitch(seen)), context);
                }
                vectorised!({
                    let rows = out.chunks_exact_mut(width).zip(mixed.chunks_exact(d));
                    for ((out, mixed), factor) in rows.zip(factors) {
                        for (out, &mixed) in out[head * d..][..d].iter_mut().zip(mixed) {
                            *out = mixed * factor;
                        }
                    }
                });
            }
        };
        // A key's element costs little compared with a score, but a decoder has few scores.
        if worth_sharing(batch * heads * len * keys * d.div_ceil(8)) {
            tasks.into_par_iter().for_each_init(scratch, run);
        } else {
            let mut scratch = scratch();
            tasks.into_iter().for_each(|task| run(&mut scratch, task));
        }
        out
    }
}
