//! Causal attention with grouped key and value heads, in tiles of queries.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use gemm::Parallelism;
use rayon::prelude::*;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::compose;
use crate::kernel::{Real, View, dot, exponentiate, matmul_into, worth_sharing};

/// Query rows whose scores exist at one time, for each head at work.
const TILE: usize = 64;

/// Attends causally from queries to keys and joins the heads.
///
/// `q` is `[B, Hq, T, d]`, `k` and `v` are `[B, Hkv, S, d]` with `S >= T` and `Hq` a multiple of
/// `Hkv`; the result is `[B, T, Hq d]`. Query head `h` reads key head `h / (Hq / Hkv)`, query `t`
/// stands at position `S - T + t` and sees the keys up to there, scaled by `1 / sqrt(d)`.
///
/// `lengths` counts the real keys of each batch row, at least one: later keys are padding that no
/// query sees. Queries in the padding still attend to the real keys, so that every row of the
/// result is finite.
///
/// Scores are never held for more than a few query rows, also not between the passes: the
/// backward pass makes them again.
///
/// # Errors
///
/// When the shapes, dtypes, devices or lengths do not fit each other, or a size is zero.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, lengths: Option<&[usize]>) -> Result<Tensor> {
    same_kind("attention", &[q, k, v])?;
    let dims = Dims::new(q, k, v, lengths)?;
    if !fused(q) {
        return compose::attention(q, k, v, lengths);
    }
    let lengths = lengths.map_or_else(|| vec![dims.keys; dims.batch], <[usize]>::to_vec);
    let op = Attention { dims, lengths };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// The sizes of an attention.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) len: usize,
    pub(crate) keys: usize,
    pub(crate) d: usize,
}

impl Dims {
    /// Reads and checks the operands' shapes.
    pub(crate) fn new(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        lengths: Option<&[usize]>,
    ) -> Result<Self> {
        let dims = match (q.dims(), k.dims(), v.dims()) {
            (&[batch, heads, len, d], &[k_batch, kv_heads, keys, k_d], v)
                if v == k.dims()
                    && k_batch == batch
                    && k_d == d
                    && kv_heads > 0
                    && heads % kv_heads == 0
                    && keys >= len =>
            {
                Self { batch, heads, kv_heads, len, keys, d }
            }
            (q, k, v) => bail!(
                "attention: q {q:?}, k {k:?}, v {v:?} are not [B, Hq, T, d] and twice \
                 [B, Hkv, S, d] with Hq a multiple of Hkv and S >= T"
            ),
        };
        if q.elem_count() == 0 {
            bail!("attention: q {:?} is empty", q.dims());
        }
        if let Some(lengths) = lengths {
            if lengths.len() != dims.batch {
                bail!("attention: {} lengths for a batch of {}", lengths.len(), dims.batch);
            }
            if let Some(length) = lengths.iter().find(|&&n| n == 0 || n > dims.keys) {
                bail!("attention: a length of {length} is not in 1..={}", dims.keys);
            }
        }
        Ok(dims)
    }

    /// How many keys query `t` sees in a batch row with `length` real keys.
    pub(crate) fn visible(&self, t: usize, length: usize) -> usize {
        (self.keys - self.len + t + 1).min(length)
    }

    /// What scores are multiplied by.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }
}

/// The operation with its sizes and one length for each batch row.
struct Attention {
    dims: Dims,
    lengths: Vec<usize>,
}

/// The queries of one tile: a batch row, a query head and the rows `first..first + rows`.
#[derive(Clone, Copy)]
struct Tile {
    batch: usize,
    head: usize,
    first: usize,
    rows: usize,
}

/// A product on the calling thread: the loops around it are what is shared.
fn product<T: Real>(out: &mut [T], add: bool, a: View<'_, T>, b: View<'_, T>) {
    matmul_into(out, add, T::ONE, a, b, Parallelism::None);
}

impl Attention {
    /// The keys that a tile has scores for.
    fn seen(&self, tile: Tile) -> usize {
        self.dims.visible(tile.first + tile.rows - 1, self.lengths[tile.batch])
    }

    /// The rows of a tile's queries.
    fn queries<'a, T: Real>(&self, q: &'a [T], tile: Tile) -> View<'a, T> {
        let Dims { heads, len, d, .. } = self.dims;
        let at = ((tile.batch * heads + tile.head) * len + tile.first) * d;
        View::new(&q[at..], tile.rows, d)
    }

    /// The rows of the keys, or values, that a tile sees.
    fn context<'a, T: Real>(&self, k: &'a [T], tile: Tile) -> View<'a, T> {
        let Dims { heads, kv_heads, keys, d, .. } = self.dims;
        let kv_head = tile.batch * kv_heads + tile.head / (heads / kv_heads);
        View::new(&k[kv_head * keys * d..], self.seen(tile), d)
    }

    /// Fills `scores` with a tile's unnormalised probabilities, calling `row` for each row's sum.
    fn probabilities<T: Real>(
        &self,
        tile: Tile,
        scores: &mut [T],
        (q, k): (&[T], &[T]),
        mut row: impl FnMut(usize, &mut [T], T),
    ) {
        let (q, k) = (self.queries(q, tile), self.context(k, tile));
        matmul_into(scores, false, T::of(self.dims.scale()), q, k.t(), Parallelism::None);
        let length = self.lengths[tile.batch];
        for (i, scores) in scores.chunks_exact_mut(self.seen(tile)).enumerate() {
            let (shown, hidden) = scores.split_at_mut(self.dims.visible(tile.first + i, length));
            let sum = exponentiate(shown);
            hidden.fill(T::ZERO);
            row(i, scores, sum);
        }
    }

    fn forward<T: Real>(&self, q: &[T], k: &[T], v: &[T]) -> Vec<T> {
        let Dims { batch, heads, len, keys, d, .. } = self.dims;
        let width = heads * d;
        let mut out = vec![T::ZERO; batch * len * width];
        let mut tasks = Vec::new();
        for (row, out) in out.chunks_mut(len * width).enumerate() {
            let tiles = out.chunks_mut(TILE * width).enumerate();
            tasks.extend(tiles.map(|(i, out)| (row, i * TILE, out)));
        }
        let scratch = || (vec![T::ZERO; TILE * keys], vec![T::ZERO; TILE * d]);
        let run = |(scores, mixed): &mut (Vec<T>, Vec<T>),
                   (batch, first, out): (_, _, &mut [T])| {
            let rows = out.len() / width;
            for head in 0..heads {
                let tile = Tile { batch, head, first, rows };
                let scores = &mut scores[..rows * self.seen(tile)];
                let mut factors = [T::ZERO; TILE];
                self.probabilities(tile, scores, (q, k), |i, _, sum| factors[i] = T::ONE / sum);
                let mixed = &mut mixed[..rows * d];
                let scores = View::new(scores, rows, self.seen(tile));
                product(mixed, false, scores, self.context(v, tile));
                let rows = out.chunks_exact_mut(width).zip(mixed.chunks_exact(d));
                for ((out, mixed), factor) in rows.zip(factors) {
                    for (out, &mixed) in out[head * d..][..d].iter_mut().zip(mixed) {
                        *out = mixed * factor;
                    }
                }
            }
        };
        if worth_sharing(batch * heads * len * keys) {
            tasks.into_par_iter().for_each_init(scratch, run);
        } else {
            let mut scratch = scratch();
            tasks.into_iter().for_each(|task| run(&mut scratch, task));
        }
        out
    }

    /// The gradients of q, k and v, those not needed left empty.
    fn backward<T: Real>(
        &self,
        (q, k, v): (&[T], &[T], &[T]),
        dy: &[T],
        need: [bool; 3],
    ) -> [Vec<T>; 3] {
        let Dims { batch, heads, kv_heads, len, keys, d } = self.dims;
        let group = heads / kv_heads;
        let sizes = [q.len(), k.len(), v.len()];
        let mut grads: [Vec<T>; 3] =
            std::array::from_fn(|i| if need[i] { vec![T::ZERO; sizes[i]] } else { Vec::new() });
        let [dq, dk, dv] = &mut grads;
        // One task owns a key head with all its query heads, so that the additions into dk and dv
        // happen in one order whatever the threads do.
        let (mut dq, mut dk, mut dv) =
            (dq.chunks_mut(group * len * d), dk.chunks_mut(keys * d), dv.chunks_mut(keys * d));
        let tasks: Vec<_> =
            (0..batch * kv_heads).map(|i| (i, dq.next(), dk.next(), dv.next())).collect();

        let scratch = || (vec![T::ZERO; TILE * keys], vec![T::ZERO; TILE * keys]);
        let run = |(scores, slopes): &mut (Vec<T>, Vec<T>), task: Task<'_, T>| {
            let (index, mut dq, mut dk, mut dv) = task;
            let (batch, first_head) = (index / kv_heads, index % kv_heads * group);
            for (member, first) in
                (0..group).flat_map(|g| (0..len).step_by(TILE).map(move |t| (g, t)))
            {
                let rows = TILE.min(len - first);
                let tile = Tile { batch, head: first_head + member, first, rows };
                let seen = self.seen(tile);
                let (scores, slopes) = (&mut scores[..rows * seen], &mut slopes[..rows * seen]);
                self.probabilities(tile, scores, (q, k), |_, scores, sum| {
                    let factor = T::ONE / sum;
                    scores.iter_mut().for_each(|p| *p *= factor);
                });
                let scores = View::new(scores, rows, seen);
                let at = ((batch * len + first) * heads + tile.head) * d;
                let dy = View::strided(&dy[at..], rows, d, heads * d);
                if let Some(dv) = &mut dv {
                    product(&mut dv[..seen * d], true, scores.t(), dy);
                }
                if dq.is_none() && dk.is_none() {
                    continue;
                }
                product(slopes, false, dy, self.context(v, tile).t());
                self.through_softmax(scores.data(), slopes, seen);
                let slopes = View::new(slopes, rows, seen);
                if let Some(dq) = &mut dq {
                    let dq = &mut dq[(member * len + first) * d..][..rows * d];
                    product(dq, false, slopes, self.context(k, tile));
                }
                if let Some(dk) = &mut dk {
                    product(&mut dk[..seen * d], true, slopes.t(), self.queries(q, tile));
                }
            }
        };
        if worth_sharing(batch * heads * len * keys) {
            tasks.into_par_iter().for_each_init(scratch, run);
        } else {
            let mut scratch = scratch();
            tasks.into_iter().for_each(|task| run(&mut scratch, task));
        }
        grads
    }

    /// Turns the gradients of the probabilities `p` into those of the unscaled scores.
    fn through_softmax<T: Real>(&self, p: &[T], slopes: &mut [T], width: usize) {
        let scale = T::of(self.dims.scale());
        for (p, slopes) in p.chunks_exact(width).zip(slopes.chunks_exact_mut(width)) {
            let mean = dot(p, slopes);
            for (slope, &p) in slopes.iter_mut().zip(p) {
                *slope = p * (*slope - mean) * scale;
            }
        }
    }
}

/// A key head of the backward pass: its index and its parts of dq, dk and dv.
type Task<'a, T> = (usize, Option<&'a mut [T]>, Option<&'a mut [T]>, Option<&'a mut [T]>);

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Dims { batch, heads, len, d, .. } = self.dims;
        by_dtype!(q.dtype(), T => {
            let (q, k) = (elements::<T>(q, q_layout)?, elements(k, k_layout)?);
            let y = self.forward(q, k, elements(v, v_layout)?);
            Ok(output(y, &Shape::from((batch, len, heads * d))))
        })
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        let need = [q.track_op(), k.track_op(), v.track_op()];
        by_dtype!(q.dtype(), T => {
            let (qs, ks, vs, dy) = (flat(q)?, flat(k)?, flat(v)?, flat(&dy)?);
            let operands = (qs.slice::<T>()?, ks.slice()?, vs.slice()?);
            let [dq, dk, dv] = self.backward(operands, dy.slice()?, need);
            let made = |needed: bool, values, x: &Tensor| -> Result<Option<Tensor>> {
                if needed { gradient::<T>(values, x.shape()).map(Some) } else { Ok(None) }
            };
            Ok((made(need[0], dq, q)?, made(need[1], dk, k)?, made(need[2], dv, v)?))
        })
    }
}
