//! Skinny GEMM: products of a few rows with a matrix that is read once, without packing.
//!
//! A product with many rows packs the matrix, which pays off when each element is used many times.
//! Decoding has one row per answer, and packing would cost more than the product.

use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::{Real, View, transposed};

/// The most rows of a skinny product.
pub(crate) const FEW: usize = 16;

/// Rows of the matrix that are read side by side.
const ABREAST: usize = 4;

/// Multiply-adds per work item. Fixed, so that no result depends on the thread count.
pub(super) const GRAIN: usize = 1 << 16;

/// Runs an expression with `$L` standing for the number of elements of `$T` in a vector of this processor.
macro_rules! by_lanes {
    ($T:ty, $L:ident => $work:expr) => {
        if vxf_tensor::processor::lanes::<$T>() == 16 {
            const $L: usize = 16;
            $work
        } else {
            const $L: usize = 8;
            $work
        }
    };
}
pub(crate) use by_lanes;

/// `x w^T` as a dense `[rows, out]`, for a few dense rows `x` `[rows, inner]` and `w` `[out, inner]`.
///
/// The order of each element's sum does not depend on the number of rows.
pub(crate) fn few_rows<T: Real>(x: &[T], w: &[T], rows: usize, inner: usize) -> Vec<T> {
    // Columns first, so that what a thread writes lies together.
    let columns = dots(View::new(w, w.len().checked_div(inner).unwrap_or(0), inner), x, rows);
    if rows == 1 { columns } else { transposed(&columns, rows) }
}

/// `many few^T` as a dense `[.., count]`, for `many` `[.., inner]` with contiguous rows, and dense `few`
/// `[count, inner]`.
pub(crate) fn dots<T: Real>(many: View<'_, T>, few: &[T], count: usize) -> Vec<T> {
    let (rows, inner) = many.size();
    let mut out = vec![T::ZERO; rows * count];
    if out.is_empty() || inner == 0 {
        return out;
    }
    let step = (GRAIN / (count * inner)).next_multiple_of(ABREAST).max(ABREAST);
    by_lanes!(T, L => {
        if rows > step && rayon::current_num_threads() > 1 {
            let parts = out.par_chunks_mut(step * count).enumerate();
            parts.for_each(|(part, out)| {
                let first = part * step;
                let many = many.rows(first..rows.min(first + step));
                vectorised!(fill::<T, L>(out, few, many, count));
            });
        } else {
            vectorised!(fill::<T, L>(&mut out, few, many, count));
        }
    });
    out
}

/// The dot products of every row of `w` with each of `rows` dense rows of `x`, the index of `w` first.
#[inline(always)]
pub(crate) fn fill<T: Real, const L: usize>(
    columns: &mut [T],
    x: &[T],
    w: View<'_, T>,
    rows: usize,
) {
    let (count, inner) = w.size();
    for (part, columns) in columns.chunks_mut(ABREAST * rows).enumerate() {
        let first = part * ABREAST;
        if first + ABREAST > count {
            for (at, column) in columns.chunks_exact_mut(rows).enumerate() {
                for (y, x) in column.iter_mut().zip(x.chunks_exact(inner)) {
                    *y = one::<T, L>(x, w.row(first + at));
                }
            }
            continue;
        }
        let w = [w.row(first), w.row(first + 1), w.row(first + 2), w.row(first + 3)];
        let mut row = 0;
        // Sixteen sums and eight operands need the 32 registers that come with the widest vectors.
        while L == 16 && row + ABREAST <= rows {
            let x = &x[row * inner..][..ABREAST * inner];
            let found = sixteen::<T, L>(x, w);
            for (column, ys) in found.into_iter().enumerate() {
                columns[column * rows + row..][..ABREAST].copy_from_slice(&ys);
            }
            row += ABREAST;
        }
        let mut pairs = x[row * inner..rows * inner].chunks_exact(2 * inner);
        for pair in pairs.by_ref() {
            let [first, second] = eight::<T, L>(pair.split_at(inner), w);
            for (column, (first, second)) in first.into_iter().zip(second).enumerate() {
                columns[column * rows + row] = first;
                columns[column * rows + row + 1] = second;
            }
            row += 2;
        }
        if row < rows {
            for (column, y) in four::<T, L>(pairs.remainder(), w).into_iter().enumerate() {
                columns[column * rows + row] = y;
            }
        }
    }
}

/// Running sums that fit into one or two registers.
#[derive(Clone, Copy)]
pub(super) struct Sums<T, const L: usize>(pub(super) [T; L]);

impl<T: Real, const L: usize> Sums<T, L> {
    const ZERO: Self = Self([T::ZERO; L]);

    /// Adds a multiple of `x`.
    #[inline(always)]
    pub(super) fn scaled(mut self, factor: T, x: &[T; L]) -> Self {
        for (sum, &x) in self.0.iter_mut().zip(x) {
            *sum = sum.plus_product(factor, x);
        }
        self
    }

    /// Adds the element-wise products of `x` and `w`.
    #[inline(always)]
    fn plus(mut self, x: &[T; L], w: &[T; L]) -> Self {
        for (sum, (&x, &w)) in self.0.iter_mut().zip(x.iter().zip(w)) {
            *sum = sum.plus_product(x, w);
        }
        self
    }

    /// The sum of all lanes and of the products of the remaining elements.
    #[inline(always)]
    fn finish(mut self, x: &[T], w: &[T]) -> T {
        for (sum, (&x, &w)) in self.0.iter_mut().zip(x.iter().zip(w)) {
            *sum = sum.plus_product(x, w);
        }
        let mut width = L / 2;
        while width > 0 {
            for lane in 0..width {
                self.0[lane] += self.0[lane + width];
            }
            width /= 2;
        }
        self.0[0]
    }
}

#[inline(always)]
fn one<T: Real, const L: usize>(x: &[T], w: &[T]) -> T {
    let ((x, x_rest), (w, w_rest)) = (x.as_chunks::<L>(), w.as_chunks::<L>());
    let mut sums = Sums::<T, L>::ZERO;
    for (x, w) in x.iter().zip(w) {
        sums = sums.plus(x, w);
    }
    sums.finish(x_rest, w_rest)
}

/// Dot products of one row with four. Written out, so that the sums stay in registers.
#[inline(always)]
fn four<T: Real, const L: usize>(x: &[T], w: [&[T]; ABREAST]) -> [T; ABREAST] {
    let (x, x_rest) = x.as_chunks::<L>();
    let [(a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] = w.map(<[T]>::as_chunks::<L>);
    let [mut sa, mut sb, mut sc, mut sd] = [Sums::<T, L>::ZERO; ABREAST];
    for ((x, (a, b)), (c, d)) in x.iter().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
        sa = sa.plus(x, a);
        sb = sb.plus(x, b);
        sc = sc.plus(x, c);
        sd = sd.plus(x, d);
    }
    [
        sa.finish(x_rest, a_rest),
        sb.finish(x_rest, b_rest),
        sc.finish(x_rest, c_rest),
        sd.finish(x_rest, d_rest),
    ]
}

/// Dot products of four dense rows with four, those of each row of `w` together.
#[inline(always)]
fn sixteen<T: Real, const L: usize>(x: &[T], w: [&[T]; ABREAST]) -> [[T; ABREAST]; ABREAST] {
    let inner = x.len() / ABREAST;
    let ((p, q), (r, s)) = {
        let (front, back) = x.split_at(2 * inner);
        (front.split_at(inner), back.split_at(inner))
    };
    let [(p, p_rest), (q, q_rest), (r, r_rest), (s, s_rest)] =
        [p, q, r, s].map(<[T]>::as_chunks::<L>);
    let [(a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] = w.map(<[T]>::as_chunks::<L>);
    let [mut pa, mut pb, mut pc, mut pd] = [Sums::<T, L>::ZERO; ABREAST];
    let [mut qa, mut qb, mut qc, mut qd] = [Sums::<T, L>::ZERO; ABREAST];
    let [mut ra, mut rb, mut rc, mut rd] = [Sums::<T, L>::ZERO; ABREAST];
    let [mut sa, mut sb, mut sc, mut sd] = [Sums::<T, L>::ZERO; ABREAST];
    let rows = p.iter().zip(q).zip(r.iter().zip(s));
    let matrix = a.iter().zip(b).zip(c.iter().zip(d));
    for (((p, q), (r, s)), ((a, b), (c, d))) in rows.zip(matrix) {
        (pa, pb, pc, pd) = (pa.plus(p, a), pb.plus(p, b), pc.plus(p, c), pd.plus(p, d));
        (qa, qb, qc, qd) = (qa.plus(q, a), qb.plus(q, b), qc.plus(q, c), qd.plus(q, d));
        (ra, rb, rc, rd) = (ra.plus(r, a), rb.plus(r, b), rc.plus(r, c), rd.plus(r, d));
        (sa, sb, sc, sd) = (sa.plus(s, a), sb.plus(s, b), sc.plus(s, c), sd.plus(s, d));
    }
    let column = |sums: [Sums<T, L>; ABREAST], w: &[T]| {
        let [p, q, r, s] = sums;
        [p.finish(p_rest, w), q.finish(q_rest, w), r.finish(r_rest, w), s.finish(s_rest, w)]
    };
    [
        column([pa, qa, ra, sa], a_rest),
        column([pb, qb, rb, sb], b_rest),
        column([pc, qc, rc, sc], c_rest),
        column([pd, qd, rd, sd], d_rest),
    ]
}

/// Dot products of two rows with four.
#[inline(always)]
fn eight<T: Real, const L: usize>((x, y): (&[T], &[T]), w: [&[T]; ABREAST]) -> [[T; ABREAST]; 2] {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<L>(), y.as_chunks::<L>());
    let [(a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] = w.map(<[T]>::as_chunks::<L>);
    let [mut xa, mut xb, mut xc, mut xd] = [Sums::<T, L>::ZERO; ABREAST];
    let [mut ya, mut yb, mut yc, mut yd] = [Sums::<T, L>::ZERO; ABREAST];
    let rows = x.iter().zip(y);
    for (((x, y), (a, b)), (c, d)) in rows.zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
        xa = xa.plus(x, a);
        ya = ya.plus(y, a);
        xb = xb.plus(x, b);
        yb = yb.plus(y, b);
        xc = xc.plus(x, c);
        yc = yc.plus(y, c);
        xd = xd.plus(x, d);
        yd = yd.plus(y, d);
    }
    [
        [
            xa.finish(x_rest, a_rest),
            xb.finish(x_rest, b_rest),
            xc.finish(x_rest, c_rest),
            xd.finish(x_rest, d_rest),
        ],
        [
            ya.finish(y_rest, a_rest),
            yb.finish(y_rest, b_rest),
            yc.finish(y_rest, c_rest),
            yd.finish(y_rest, d_rest),
        ],
    ]
}

#[cfg(test)]
mod tests {
    use super::{FEW, few_rows};

    fn numbers(n: usize, step: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * step) % 23) as f64 - 11.0).collect()
    }

    #[test]
    fn matches_the_definition_for_every_number_of_rows() {
        for (inner, out) in [(1, 1), (7, 3), (8, 4), (33, 9), (40, 130), (0, 4)] {
            for rows in 0..=FEW {
                let (x, w) = (numbers(rows * inner, 5), numbers(out * inner, 7));
                let mut expected = Vec::new();
                for row in 0..rows {
                    for column in 0..out {
                        let products =
                            (0..inner).map(|i| x[row * inner + i] * w[column * inner + i]);
                        expected.push(products.sum::<f64>());
                    }
                }
                // With an inner size of zero the number of columns is unknown.
                if inner > 0 {
                    assert_eq!(few_rows(&x, &w, rows, inner), expected, "{rows} {inner} {out}");
                }
            }
        }
    }

    /// The bits of an element do not depend on other rows or on the kernel.
    #[test]
    fn bits_depend_on_the_operands_alone() {
        let (inner, out) = (301, 1030);
        let source = |n: usize, seed: u32| -> Vec<f32> {
            (0..n as u32).map(|i| ((i * 7919 + seed) % 1009) as f32 / 1009.0 - 0.5).collect()
        };
        let (x, w) = (source(FEW * inner, 1), source(out * inner, 5));
        let run = |rows: usize, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| few_rows(&x[..rows * inner], &w, rows, inner))
        };
        let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        let all = run(FEW, 1);
        for threads in [1, 2, 5] {
            for rows in [1, 2, 5, FEW] {
                assert_eq!(bits(&run(rows, threads)), bits(&all[..rows * out]), "{threads} {rows}");
            }
        }
    }
}
