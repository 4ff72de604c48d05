//! Computes scores, a tile of queries at a time.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::dims::Sight;
use crate::kernel::{
    LANES, Real, View, add_scaled, by_lanes, exponentiate, fill, matmul_into, soften, transpose,
    worth_sharing,
};

/// Query rows whose scores are in memory at one time, for each active head.
pub(super) const TILE: usize = 64;

/// One sample: the keys that its queries see, and the places of its parts.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) sight: Sight,
    /// Its first row of the result.
    pub(super) row: usize,
    /// The offsets of its queries `[heads, len, d]`, keys and values `[kv heads, .., d]`.
    pub(super) q: usize,
    pub(super) k: usize,
    pub(super) v: usize,
    /// The stride between heads of keys, or values.
    pub(super) pitch: usize,
}

/// The sizes and the samples; each has at least one query.
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) d: usize,
    /// The soft cap of scores.
    pub(super) cap: Option<f64>,
    pub(super) samples: Vec<Sample>,
}

/// The queries of one tile: a sample, a query head and the rows `first..first + rows`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) sample: usize,
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
    pub(super) fn new(of: &Attention) -> Self {
        let sights = || of.samples.iter().map(|sample| sample.sight);
        let pitch = pitch(sights().map(|sight| sight.keys).max().unwrap_or(0));
        let rows = sights().map(|sight| sight.len).max().unwrap_or(0).min(TILE);
        Self { scores: vec![T::ZERO; rows * pitch], transposed: vec![T::ZERO; of.d * pitch] }
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
        self.samples[tile.sample].sight.seen(tile.first, tile.rows)
    }

    /// The rows of a tile's queries.
    pub(super) fn queries<'a, T: Real>(&self, q: &'a [T], tile: Tile) -> View<'a, T> {
        let Sample { sight, q: start, .. } = self.samples[tile.sample];
        let at = start + (tile.head * sight.len + tile.first) * self.d;
        View::new(&q[at..], tile.rows, self.d)
    }

    /// The rows of the keys that a tile sees.
    pub(super) fn keys<'a, T: Real>(&self, k: &'a [T], tile: Tile) -> View<'a, T> {
        self.context(k, self.samples[tile.sample].k, tile)
    }

    /// The rows of the values that a tile sees.
    pub(super) fn values<'a, T: Real>(&self, v: &'a [T], tile: Tile) -> View<'a, T> {
        self.context(v, self.samples[tile.sample].v, tile)
    }

    fn context<'a, T: Real>(&self, x: &'a [T], start: usize, tile: Tile) -> View<'a, T> {
        let kv_head = tile.head / (self.heads / self.kv_heads);
        let seen = self.seen(tile);
        let at = start + kv_head * self.samples[tile.sample].pitch + seen.start * self.d;
        View::new(&x[at..], seen.len(), self.d)
    }

    /// What scores are multiplied by.
    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }

    /// The number of scores.
    pub(super) fn scores(&self) -> usize {
        let of = |sample: &Sample| sample.sight.len * sample.sight.keys;
        self.heads * self.samples.iter().map(of).sum::<usize>()
    }

    /// Fills `scores`, rows of whole vectors, with a tile's unnormalised probabilities, calling `row` for
    /// each row and its sum. With a soft cap, `slopes` gets its derivative at each score, if given.
    #[inline(always)]
    pub(super) fn probabilities<T: Real>(
        &self,
        tile: Tile,
        (scores, scratch): (&mut [T], &mut [T]),
        (q, k): (&[T], &[T]),
        slopes: Option<&mut [T]>,
        mut row: impl FnMut(usize, &mut [T], T),
    ) {
        let (q, k) = (self.queries(q, tile), self.keys(k, tile));
        let scale = T::of(self.scale());
        let sight = self.samples[tile.sample].sight;
        let seen = self.seen(tile);
        if tile.rows == 1 {
            // One query of a decoder: turning its keys would cost more than the product.
            let (query, scores) = (&q.data()[..self.d], &mut scores[..seen.len()]);
            by_lanes!(T, L => vectorised!({
                fill::<T, L>(scores, query, k, 1);
                scores.iter_mut().for_each(|score| *score *= scale);
            }));
        } else {
            matmul_into(scores, false, scale, q, padded_transpose(scratch, k), Parallelism::None);
        }
        if let Some(cap) = self.cap {
            soften(scores, T::of(cap), slopes);
        }
        vectorised!({
            for (i, scores) in scores.chunks_exact_mut(pitch(seen.len())).enumerate() {
                let sum = match sight.visible(tile.first + i) {
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
        let Self { heads, d, .. } = *self;
        let width = heads * d;
        let rows = self.samples.iter().map(|sample| sample.sight.len).sum::<usize>();
        let mut out = vec![T::ZERO; rows * width];
        let (mut tasks, mut rest) = (Vec::new(), &mut out[..]);
        for (index, sample) in self.samples.iter().enumerate() {
            let (own, others) = rest.split_at_mut(sample.sight.len * width);
            rest = others;
            let tiles = own.chunks_mut(TILE * width).enumerate();
            tasks.extend(tiles.map(|(i, out)| (index, i * TILE, out)));
        }
        let scratch = || (Scratch::new(self), vec![T::ZERO; TILE * d]);
        let run = |(scratch, mixed): &mut (Scratch<T>, Vec<T>),
                   (sample, first, out): (_, _, &mut [T])| {
            let rows = out.len() / width;
            for head in 0..heads {
                let tile = Tile { sample, head, first, rows };
                let seen = self.seen(tile).len();
                let scores = &mut scratch.scores[..rows * pitch(seen)];
                let mut factors = [T::ZERO; TILE];
                self.probabilities(
                    tile,
                    (&mut *scores, &mut scratch.transposed),
                    (q, k),
                    None,
                    #[inline(always)]
                    |i, _, sum| factors[i] = T::ONE / sum,
                );
                let mixed = &mut mixed[..rows * d];
                let context = self.values(v, tile);
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
        // An element of a row of a key is little beside a score, but a decoder has few scores.
        if worth_sharing(self.scores() * d.div_ceil(8)) {
            tasks.into_par_iter().for_each_init(scratch, run);
        } else {
            let mut scratch = scratch();
            tasks.into_iter().for_each(|task| run(&mut scratch, task));
        }
        out
    }
}
