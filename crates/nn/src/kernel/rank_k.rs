//! Rank-k GEMM: products with a small inner or outer size, such as the rank of an adapter.
//!
//! A general GEMM packs its operands, which costs more than so few multiply-adds per element. Every
//! element is summed in the order of the rows or columns, so that the bits do not depend on the
//! tiling.

use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::skinny::{GRAIN, Sums, by_lanes, fill};
use super::{Real, View, add_scaled};

/// Rows, or columns, that are processed together.
const ABREAST: usize = 4;

/// Rows of a sum of outer products that are processed together, so that they stay in the cache.
const DEEP: usize = 32;

/// Rows per partial sum of outer products. Fixed, so that the order of additions does not depend on
/// the thread count.
const GROUP: usize = 256;

/// The elements of a row-major matrix that dropout keeps, and the factor of those.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a, T> {
    pub(crate) bytes: &'a [u8],
    pub(crate) factor: T,
}

impl<'a, T: Real> Kept<'a, T> {
    /// The elements from `start` on.
    #[inline(always)]
    pub(crate) fn from(self, start: usize) -> Self {
        Self { bytes: &self.bytes[start..], ..self }
    }

    /// Writes `x` times the mask to `out`.
    #[inline(always)]
    pub(crate) fn apply(self, out: &mut [T], x: &[T]) {
        let factors = [T::ZERO, self.factor];
        for (out, (&x, &kept)) in out.iter_mut().zip(x.iter().zip(self.bytes)) {
            *out = x * if kept == 0 { factors[0] } else { factors[1] };
        }
    }

    /// Adds `x` times the mask to `out`.
    #[inline(always)]
    pub(crate) fn add(self, out: &mut [T], x: &[T]) {
        let factors = [T::ZERO, self.factor];
        for (out, (&x, &kept)) in out.iter_mut().zip(x.iter().zip(self.bytes)) {
            *out += x * if kept == 0 { factors[0] } else { factors[1] };
        }
    }
}

/// Two adjacent vectors of a row, from column `at`.
#[inline(always)]
fn vectors<T, const L: usize>(row: &[T], at: usize) -> (&[T; L], &[T; L]) {
    match row[at..at + 2 * L].as_chunks::<L>().0 {
        [first, second] => (first, second),
        _ => unreachable!("two vectors"),
    }
}

/// Loads two vectors as running sums.
#[inline(always)]
fn load<T: Real, const L: usize>(row: &[T], at: usize) -> (Sums<T, L>, Sums<T, L>) {
    let (first, second) = vectors(row, at);
    (Sums(*first), Sums(*second))
}

/// Stores two running sums.
#[inline(always)]
fn store<T: Real, const L: usize>(
    row: &mut [T],
    at: usize,
    (first, second): (Sums<T, L>, Sums<T, L>),
) {
    row[at..at + L].copy_from_slice(&first.0);
    row[at + L..at + 2 * L].copy_from_slice(&second.0);
}

/// Adds a multiple of two vectors to two sums.
#[inline(always)]
fn plus<T: Real, const L: usize>(
    (first, second): (Sums<T, L>, Sums<T, L>),
    factor: T,
    (x, y): (&[T; L], &[T; L]),
) -> (Sums<T, L>, Sums<T, L>) {
    (first.scaled(factor, x), second.scaled(factor, y))
}

/// Adds a multiple of a row to another, with the same rounding as the vectors.
#[inline(always)]
fn add_multiple<T: Real>(into: &mut [T], factor: T, row: &[T]) {
    for (into, &x) in into.iter_mut().zip(row) {
        *into = into.plus_product(factor, x);
    }
}

/// Adds `u m` to the first columns of `y`, whose rows have the stride `pitch`, for `u` `[rows, rank]` and
/// dense `m` `[rank, width]`.
pub(crate) fn spread<T: Real>(y: &mut [T], pitch: usize, u: View<'_, T>, m: &[T]) {
    let (rows, rank) = u.size();
    if y.is_empty() || m.is_empty() || rows == 0 {
        return;
    }
    let step = (GRAIN / m.len()).next_multiple_of(ABREAST).max(ABREAST);
    by_lanes!(T, L => {
        if rows > step && rayon::current_num_threads() > 1 {
            let parts = y.par_chunks_mut(step * pitch).enumerate();
            parts.for_each(|(part, y)| {
                let first = part * step;
                let u = u.rows(first.min(rows)..rows.min(first + step));
                vectorised!(spread_rows::<T, L>(y, pitch, u, m, rank));
            });
        } else {
            vectorised!(spread_rows::<T, L>(y, pitch, u, m, rank));
        }
    });
}

#[inline(always)]
fn spread_rows<T: Real, const L: usize>(
    y: &mut [T],
    pitch: usize,
    u: View<'_, T>,
    m: &[T],
    rank: usize,
) {
    let width = m.len() / rank;
    let whole = width - width % (2 * L);
    let rows = u.size().0;
    for (part, y) in y.chunks_mut(ABREAST * pitch).enumerate() {
        let first = part * ABREAST;
        let mut start = 0;
        if first >= rows {
            return;
        }
        if first + ABREAST <= rows {
            let (one, two) = y.split_at_mut(2 * pitch);
            let (a, b) = one.split_at_mut(pitch);
            let (c, d) = two.split_at_mut(pitch);
            let [ua, ub, uc, ud] = [0, 1, 2, 3].map(|row| u.row(first + row));
            for at in (0..whole).step_by(2 * L) {
                let (mut sa, mut sb) = (load::<T, L>(a, at), load::<T, L>(b, at));
                let (mut sc, mut sd) = (load::<T, L>(c, at), load::<T, L>(d, at));
                for (j, m) in m.chunks_exact(width).enumerate() {
                    let m = vectors(m, at);
                    sa = plus(sa, ua[j], m);
                    sb = plus(sb, ub[j], m);
                    sc = plus(sc, uc[j], m);
                    sd = plus(sd, ud[j], m);
                }
                store(a, at, sa);
                store(b, at, sb);
                store(c, at, sc);
                store(d, at, sd);
            }
            start = whole;
        }
        for (row, y) in (first..rows).zip(y.chunks_mut(pitch)) {
            for (&u, m) in u.row(row).iter().zip(m.chunks_exact(width)) {
                add_multiple(&mut y[start..width], u, &m[start..]);
            }
        }
    }
}

/// Rows that are masked together, so that they stay in the cache.
const MASKED: usize = 32;

/// `(x * mask) few^T` as a dense `[rows, count]`, for dense `x` `[rows, inner]` and `few` `[count, inner]`.
pub(crate) fn masked_dots<T: Real>(
    x: View<'_, T>,
    mask: Kept<'_, T>,
    few: &[T],
    count: usize,
) -> Vec<T> {
    let (rows, inner) = x.size();
    let mut out = vec![T::ZERO; rows * count];
    if out.is_empty() || inner == 0 {
        return out;
    }
    let step = (GRAIN / (count * inner)).next_multiple_of(MASKED).max(MASKED);
    by_lanes!(T, L => {
        let run = |(part, out): (usize, &mut [T])| {
            let mut scratch = vec![T::ZERO; MASKED * inner];
            vectorised!({
                for (block, out) in out.chunks_mut(MASKED * count).enumerate() {
                    let (first, rows) = (part * step + block * MASKED, out.len() / count);
                    let scratch = &mut scratch[..rows * inner];
                    mask.from(first * inner).apply(scratch, &x.data()[first * inner..]);
                    fill::<T, L>(out, few, View::new(scratch, rows, inner), count);
                }
            });
        };
        if rows > step && rayon::current_num_threads() > 1 {
            out.par_chunks_mut(step * count).enumerate().for_each(run);
        } else {
            out.chunks_mut(step * count).enumerate().for_each(run);
        }
    });
    out
}

/// Adds `(u m) * mask` to dense `y` `[rows, width]`, for `u` `[rows, rank]` and dense `m` `[rank, width]`.
pub(crate) fn masked_spread<T: Real>(y: &mut [T], u: View<'_, T>, m: &[T], mask: Kept<'_, T>) {
    let (rows, rank) = u.size();
    let width = m.len().checked_div(rank).unwrap_or(0);
    if y.is_empty() || width == 0 {
        return;
    }
    let step = (GRAIN / m.len()).next_multiple_of(MASKED).max(MASKED);
    by_lanes!(T, L => {
        let run = |(part, y): (usize, &mut [T])| {
            let mut scratch = vec![T::ZERO; MASKED * width];
            vectorised!({
                for (block, y) in y.chunks_mut(MASKED * width).enumerate() {
                    let first = part * step + block * MASKED;
                    let scratch = &mut scratch[..y.len()];
                    scratch.fill(T::ZERO);
                    let u = u.rows(first..rows.min(first + MASKED));
                    spread_rows::<T, L>(scratch, width, u, m, rank);
                    mask.from(first * width).add(y, scratch);
                }
            });
        };
        if rows > step && rayon::current_num_threads() > 1 {
            y.par_chunks_mut(step * width).enumerate().for_each(run);
        } else {
            y.chunks_mut(step * width).enumerate().for_each(run);
        }
    });
}

/// `p^T (x * mask)` as a dense `[rank, width]`, for `p` `[rows, rank]` and `x` `[rows, width]`. With a
/// mask, `x` must be dense.
pub(crate) fn outer_sum<T: Real>(
    p: View<'_, T>,
    x: View<'_, T>,
    mask: Option<Kept<'_, T>>,
) -> Vec<T> {
    let ((rows, rank), (_, width)) = (p.size(), x.size());
    let len = rank * width;
    let mut parts = vec![T::ZERO; rows.div_ceil(GROUP).max(1) * len];
    if rows == 0 || len == 0 {
        return parts;
    }
    by_lanes!(T, L => {
        let add = |(group, part): (usize, &mut [T])| {
            let rows = group * GROUP..rows.min((group + 1) * GROUP);
            let mask = mask.map(|mask| mask.from(rows.start * width));
            vectorised!(add_outer::<T, L>(part, p.rows(rows.clone()), x.rows(rows), mask));
        };
        if rows > GROUP && rayon::current_num_threads() > 1 {
            parts.par_chunks_mut(len).enumerate().for_each(add);
        } else {
            parts.chunks_mut(len).enumerate().for_each(add);
        }
    });
    let (sum, rest) = parts.split_at_mut(len);
    for part in rest.chunks_exact(len) {
        add_scaled(sum, T::ONE, part);
    }
    parts.truncate(len);
    parts
}

#[inline(always)]
fn add_outer<T: Real, const L: usize>(
    out: &mut [T],
    p: View<'_, T>,
    x: View<'_, T>,
    mask: Option<Kept<'_, T>>,
) {
    let ((rows, rank), (_, width)) = (p.size(), x.size());
    let (whole, side) = (width - width % (2 * L), rank - rank % ABREAST);
    let mut scratch = vec![T::ZERO; if mask.is_some() { DEEP.min(rows) * width } else { 0 }];
    for first in (0..rows).step_by(DEEP) {
        let count = DEEP.min(rows - first);
        let (p, x) = (p.rows(first..first + count), x.rows(first..first + count));
        let x = match mask {
            None => x,
            Some(mask) => {
                let scratch = &mut scratch[..count * width];
                mask.from(first * width).apply(scratch, &x.data()[..count * width]);
                View::new(scratch, count, width)
            }
        };
        for at in (0..whole).step_by(2 * L) {
            for (j, out) in out.chunks_exact_mut(ABREAST * width).enumerate() {
                let j = j * ABREAST;
                let (one, two) = out.split_at_mut(2 * width);
                let (a, b) = one.split_at_mut(width);
                let (c, d) = two.split_at_mut(width);
                let (mut sa, mut sb) = (load::<T, L>(a, at), load::<T, L>(b, at));
                let (mut sc, mut sd) = (load::<T, L>(c, at), load::<T, L>(d, at));
                for row in 0..count {
                    let (p, x) = (&p.row(row)[j..j + ABREAST], vectors(x.row(row), at));
                    sa = plus(sa, p[0], x);
                    sb = plus(sb, p[1], x);
                    sc = plus(sc, p[2], x);
                    sd = plus(sd, p[3], x);
                }
                store(a, at, sa);
                store(b, at, sb);
                store(c, at, sc);
                store(d, at, sd);
            }
            for j in side..rank {
                let out = &mut out[j * width..(j + 1) * width];
                let mut sums = load::<T, L>(out, at);
                for row in 0..count {
                    sums = plus(sums, p.row(row)[j], vectors(x.row(row), at));
                }
                store(out, at, sums);
            }
        }
        if whole < width {
            for row in 0..count {
                for (&p, out) in p.row(row).iter().zip(out.chunks_exact_mut(width)) {
                    add_multiple(&mut out[whole..], p, &x.row(row)[whole..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::skinny::dots;
    use super::{Kept, View, masked_dots, masked_spread, outer_sum, spread};

    const SIZES: [(usize, usize, usize); 6] =
        [(1, 1, 1), (3, 2, 17), (4, 8, 16), (9, 5, 33), (300, 3, 18), (530, 16, 70)];

    fn numbers(n: usize, step: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * step) % 23) as f64 - 11.0).collect()
    }

    #[test]
    fn match_their_definitions() {
        for (rows, rank, width) in SIZES {
            let (u, m) = (numbers(rows * rank, 5), numbers(rank * width, 7));
            let start = numbers(rows * width, 3);
            let (mut y, mut expected) = (start.clone(), start);
            spread(&mut y, width, View::new(&u, rows, rank), &m);
            for (at, y) in expected.iter_mut().enumerate() {
                let (row, column) = (at / width, at % width);
                *y += (0..rank).map(|j| u[row * rank + j] * m[j * width + column]).sum::<f64>();
            }
            assert_eq!(y, expected, "{rows} {rank} {width}");

            let x = numbers(rows * width, 9);
            let product = |at: usize| -> f64 {
                let (j, column) = (at / width, at % width);
                (0..rows).map(|row| u[row * rank + j] * x[row * width + column]).sum()
            };
            let expected: Vec<f64> = (0..rank * width).map(product).collect();
            let (p, dense) = (View::new(&u, rows, rank), View::new(&x, rows, width));
            assert_eq!(outer_sum(p, dense, None), expected, "{rows} {rank} {width}");

            // The same inside of wider matrices.
            let wider = |x: &[f64], width: usize| -> Vec<f64> {
                x.chunks(width).flat_map(|row| [row, &[7.0, 8.0, 9.0]].concat()).collect()
            };
            let (wide_u, wide_x) = (wider(&u, rank), wider(&x, width));
            let p = View::strided(&wide_u, rows, rank, rank + 3);
            let inside = View::strided(&wide_x, rows, width, width + 3);
            assert_eq!(outer_sum(p, inside, None), expected, "{rows} {rank} {width}, wide");
            let mut wide_y = wider(&numbers(rows * width, 3), width);
            spread(&mut wide_y, width + 3, p, &m);
            assert_eq!(wide_y, wider(&y, width), "{rows} {rank} {width}, wide");

            let bytes: Vec<u8> = (0..rows * width).map(|at| u8::from(at % 3 != 0)).collect();
            let mask = Kept { bytes: &bytes, factor: 2.0 };
            let product = |at: usize| -> f64 {
                let (j, column) = (at / width, at % width);
                let one = |at: usize| 2.0 * f64::from(bytes[at]) * x[at];
                (0..rows).map(|row| u[row * rank + j] * one(row * width + column)).sum()
            };
            let expected: Vec<f64> = (0..rank * width).map(product).collect();
            let p = View::new(&u, rows, rank);
            assert_eq!(outer_sum(p, dense, Some(mask)), expected, "{rows} {rank} {width}, masked");
        }
        let none = |columns| View::<f64>::new(&[], 0, columns);
        assert_eq!(outer_sum(none(2), none(3), None), [0.0; 6]);
    }

    #[test]
    fn masks_are_those_of_a_masked_operand() {
        for (rows, rank, width) in SIZES {
            let (u, m, x) =
                (numbers(rows * rank, 5), numbers(rank * width, 7), numbers(rows * width, 9));
            let bytes: Vec<u8> = (0..rows * width).map(|at| u8::from(at % 5 != 0)).collect();
            let mask = Kept { bytes: &bytes, factor: 2.0 };
            let mut masked = vec![f64::NAN; rows * width];
            mask.apply(&mut masked, &x);
            let expected = dots(View::new(&masked, rows, width), &m, rank);
            assert_eq!(masked_dots(View::new(&x, rows, width), mask, &m, rank), expected);

            let (mut y, mut product) = (x.clone(), vec![0.0; rows * width]);
            let u = View::new(&u, rows, rank);
            spread(&mut product, width, u, &m);
            let mut expected = x;
            mask.add(&mut expected, &product);
            masked_spread(&mut y, u, &m, mask);
            assert_eq!(y, expected, "{rows} {rank} {width}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_thread_count() {
        let (rows, rank, width) = (1030, 7, 333);
        let source = |n: usize, seed: u32| -> Vec<f32> {
            (0..n as u32).map(|i| ((i * 7919 + seed) % 1009) as f32 / 1009.0 - 0.5).collect()
        };
        let (p, x, m) = (source(rows * rank, 1), source(rows * width, 5), source(rank * width, 9));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| {
                let mut y = x.clone();
                let p = View::new(&p, rows, rank);
                spread(&mut y, width, p, &m);
                [outer_sum(p, View::new(&x, rows, width), None), y].concat()
            })
        };
        let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let alone = bits(run(1));
        for threads in [2, 5] {
            assert_eq!(bits(run(threads)), alone);
        }
    }
}
