//! Rank-k GEMM: products with a small inner or outer size, such as the rank of an adapter.
//!
//! A general GEMM packs its operands, which costs more than so few multiply-adds per element. Every
//! element is summed in the order of the rows or columns, so that the bits do not depend on the
//! tiling.

use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::skinny::{GRAIN, LANES, Sums};
use super::{Real, add_scaled};

/// Rows, or columns, that are processed together.
const ABREAST: usize = 4;

/// Columns that are processed together.
const WIDE: usize = 2 * LANES;

/// Rows of a sum of outer products that are processed together, so that they stay in the cache.
const DEEP: usize = 32;

/// Rows per partial sum of outer products. Fixed, so that the order of additions does not depend on
/// the thread count.
const GROUP: usize = 256;

/// Two adjacent vectors of a row, from column `at`.
#[inline(always)]
fn vectors<T>(row: &[T], at: usize) -> (&[T; LANES], &[T; LANES]) {
    match row[at..at + WIDE].as_chunks::<LANES>().0 {
        [first, second] => (first, second),
        _ => unreachable!("WIDE is two vectors"),
    }
}

/// Loads two vectors as running sums.
#[inline(always)]
fn load<T: Real>(row: &[T], at: usize) -> (Sums<T>, Sums<T>) {
    let (first, second) = vectors(row, at);
    (Sums(*first), Sums(*second))
}

/// Stores two running sums.
#[inline(always)]
fn store<T: Real>(row: &mut [T], at: usize, (first, second): (Sums<T>, Sums<T>)) {
    row[at..at + LANES].copy_from_slice(&first.0);
    row[at + LANES..at + WIDE].copy_from_slice(&second.0);
}

/// Adds a multiple of two vectors to two sums.
#[inline(always)]
fn plus<T: Real>(
    (first, second): (Sums<T>, Sums<T>),
    factor: T,
    (x, y): (&[T; LANES], &[T; LANES]),
) -> (Sums<T>, Sums<T>) {
    (first.scaled(factor, x), second.scaled(factor, y))
}

/// Adds a multiple of a row to another, with the same rounding as the vectors.
#[inline(always)]
fn add_multiple<T: Real>(into: &mut [T], factor: T, row: &[T]) {
    for (into, &x) in into.iter_mut().zip(row) {
        *into = into.plus_product(factor, x);
    }
}

/// Adds `u m` to `y`, for dense `u` `[rows, rank]`, `m` `[rank, width]` and `y` `[rows, width]`.
pub(crate) fn spread<T: Real>(y: &mut [T], u: &[T], m: &[T], rank: usize) {
    let width = m.len().checked_div(rank).unwrap_or(0);
    if y.is_empty() || width == 0 {
        return;
    }
    let step = (GRAIN / m.len()).next_multiple_of(ABREAST).max(ABREAST);
    if y.len() > step * width && rayon::current_num_threads() > 1 {
        let parts = y.par_chunks_mut(step * width).zip(u.par_chunks(step * rank));
        parts.for_each(|(y, u)| vectorised!(spread_rows(y, u, m, (rank, width))));
    } else {
        vectorised!(spread_rows(y, u, m, (rank, width)));
    }
}

#[inline(always)]
fn spread_rows<T: Real>(y: &mut [T], u: &[T], m: &[T], (rank, width): (usize, usize)) {
    let whole = width - width % WIDE;
    for (y, u) in y.chunks_mut(ABREAST * width).zip(u.chunks(ABREAST * rank)) {
        let mut start = 0;
        if y.len() == ABREAST * width {
            let (first, second) = y.split_at_mut(2 * width);
            let (a, b) = first.split_at_mut(width);
            let (c, d) = second.split_at_mut(width);
            for at in (0..whole).step_by(WIDE) {
                let (mut sa, mut sb) = (load(a, at), load(b, at));
                let (mut sc, mut sd) = (load(c, at), load(d, at));
                for (j, m) in m.chunks_exact(width).enumerate() {
                    let m = vectors(m, at);
                    sa = plus(sa, u[j], m);
                    sb = plus(sb, u[rank + j], m);
                    sc = plus(sc, u[2 * rank + j], m);
                    sd = plus(sd, u[3 * rank + j], m);
                }
                store(a, at, sa);
                store(b, at, sb);
                store(c, at, sc);
                store(d, at, sd);
            }
            start = whole;
        }
        for (y, u) in y.chunks_exact_mut(width).zip(u.chunks_exact(rank)) {
            for (&u, m) in u.iter().zip(m.chunks_exact(width)) {
                add_multiple(&mut y[start..], u, &m[start..]);
            }
        }
    }
}

/// `p^T x` as a dense `[rank, width]`, for dense `p` `[rows, rank]` and `x` `[rows, width]`.
pub(crate) fn outer_sum<T: Real>(p: &[T], x: &[T], rank: usize, width: usize) -> Vec<T> {
    let len = rank * width;
    let rows = p.len().checked_div(rank).unwrap_or(0);
    let mut parts = vec![T::ZERO; rows.div_ceil(GROUP).max(1) * len];
    if rows == 0 || width == 0 {
        return parts;
    }
    let sizes = (rank, width);
    if rows > GROUP && rayon::current_num_threads() > 1 {
        let groups = p.par_chunks(GROUP * rank).zip(x.par_chunks(GROUP * width));
        let all = parts.par_chunks_mut(len).zip(groups);
        all.for_each(|(part, (p, x))| vectorised!(add_outer(part, p, x, sizes)));
    } else {
        let groups = p.chunks(GROUP * rank).zip(x.chunks(GROUP * width));
        let all = parts.chunks_mut(len).zip(groups);
        all.for_each(|(part, (p, x))| vectorised!(add_outer(part, p, x, sizes)));
    }
    let (sum, rest) = parts.split_at_mut(len);
    for part in rest.chunks_exact(len) {
        add_scaled(sum, T::ONE, part);
    }
    parts.truncate(len);
    parts
}

#[inline(always)]
fn add_outer<T: Real>(out: &mut [T], p: &[T], x: &[T], (rank, width): (usize, usize)) {
    let (whole, side) = (width - width % WIDE, rank - rank % ABREAST);
    for (p, x) in p.chunks(DEEP * rank).zip(x.chunks(DEEP * width)) {
        let rows = || p.chunks_exact(rank).zip(x.chunks_exact(width));
        for at in (0..whole).step_by(WIDE) {
            for (j, out) in out.chunks_exact_mut(ABREAST * width).enumerate() {
                let j = j * ABREAST;
                let (first, second) = out.split_at_mut(2 * width);
                let (a, b) = first.split_at_mut(width);
                let (c, d) = second.split_at_mut(width);
                let (mut sa, mut sb) = (load(a, at), load(b, at));
                let (mut sc, mut sd) = (load(c, at), load(d, at));
                for (p, x) in rows() {
                    let (p, x) = (&p[j..j + ABREAST], vectors(x, at));
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
                let mut sums = load(out, at);
                for (p, x) in rows() {
                    sums = plus(sums, p[j], vectors(x, at));
                }
                store(out, at, sums);
            }
        }
        if whole < width {
            for (p, x) in rows() {
                for (&p, out) in p.iter().zip(out.chunks_exact_mut(width)) {
                    add_multiple(&mut out[whole..], p, &x[whole..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{outer_sum, spread};

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
            spread(&mut y, &u, &m, rank);
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
            assert_eq!(outer_sum(&u, &x, rank, width), expected, "{rows} {rank} {width}");
        }
        assert_eq!(outer_sum::<f64>(&[], &[], 2, 3), [0.0; 6]);
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
                spread(&mut y, &p, &m, rank);
                [outer_sum(&p, &x, rank, width), y].concat()
            })
        };
        let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let alone = bits(run(1));
        for threads in [2, 5] {
            assert_eq!(bits(run(threads)), alone);
        }
    }
}
