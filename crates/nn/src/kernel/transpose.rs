//! Transposes matrices, eight rows and columns at a time.
//!
//! Element by element, a transpose costs as much as a tenth of the GEMM that needs it.

use vxf_tensor::vectorised;

use super::{Real, View};

/// Rows, and columns, of a square.
pub(super) const SIDE: usize = 8;

/// The elements of a square.
pub(super) type Square<T> = [[T; SIDE]; SIDE];

/// Writes the transpose of `x`, whose rows are contiguous, to `out`: a row for each column of `x`,
/// `pitch` elements apart. Elements between the rows are not changed.
#[inline(always)]
pub(crate) fn transpose<T: Real>(out: &mut [T], pitch: usize, x: View<'_, T>) {
    let (rows, columns) = x.size();
    let (whole, side) = (rows - rows % SIDE, columns - columns % SIDE);
    for first in (0..whole).step_by(SIDE) {
        let lines: [&[T]; SIDE] = std::array::from_fn(|i| x.row(first + i));
        for at in (0..side).step_by(SIDE) {
            let mut square = [[T::ZERO; SIDE]; SIDE];
            for (to, line) in square.iter_mut().zip(lines) {
                to.copy_from_slice(&line[at..at + SIDE]);
            }
            for (i, line) in T::transpose_square(square).iter().enumerate() {
                out[(at + i) * pitch + first..][..SIDE].copy_from_slice(line);
            }
        }
        for at in side..columns {
            for (to, line) in out[at * pitch + first..][..SIDE].iter_mut().zip(lines) {
                *to = line[at];
            }
        }
    }
    for row in whole..rows {
        for (at, &x) in x.row(row).iter().enumerate() {
            out[at * pitch + row] = x;
        }
    }
}

/// The transpose of a dense matrix with rows of `width` elements.
pub(crate) fn transposed<T: Real>(x: &[T], width: usize) -> Vec<T> {
    let rows = x.len().checked_div(width).unwrap_or(0);
    let mut out = vec![T::ZERO; x.len()];
    vectorised!(transpose(&mut out, rows, View::new(x, rows, width)));
    out
}

/// Transposes a square element by element.
#[inline(always)]
pub(super) fn transpose_square<T: Real>(square: Square<T>) -> Square<T> {
    std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
}

/// Transposes a square in AVX registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn transpose_square_avx(simd: pulp::x86::V3, square: Square<f32>) -> Square<f32> {
    let avx = simd.avx;
    let [a, b, c, d, e, f, g, h] = square.map(pulp::cast);
    // Pairs of rows, then pairs of pairs, interleaved within the halves of a register.
    let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
    let (ef, gh) = (avx._mm256_unpacklo_ps(e, f), avx._mm256_unpacklo_ps(g, h));
    let (ba, dc) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
    let (fe, hg) = (avx._mm256_unpackhi_ps(e, f), avx._mm256_unpackhi_ps(g, h));
    const LOW: i32 = 0b01_00_01_00;
    const HIGH: i32 = 0b11_10_11_10;
    let upper = [
        avx._mm256_shuffle_ps::<LOW>(ab, cd),
        avx._mm256_shuffle_ps::<HIGH>(ab, cd),
        avx._mm256_shuffle_ps::<LOW>(ba, dc),
        avx._mm256_shuffle_ps::<HIGH>(ba, dc),
    ];
    let lower = [
        avx._mm256_shuffle_ps::<LOW>(ef, gh),
        avx._mm256_shuffle_ps::<HIGH>(ef, gh),
        avx._mm256_shuffle_ps::<LOW>(fe, hg),
        avx._mm256_shuffle_ps::<HIGH>(fe, hg),
    ];
    let [[a, b, c, d], [e, f, g, h]] = [
        std::array::from_fn(|i| avx._mm256_permute2f128_ps::<0x20>(upper[i], lower[i])),
        std::array::from_fn(|i| avx._mm256_permute2f128_ps::<0x31>(upper[i], lower[i])),
    ];
    [a, b, c, d, e, f, g, h].map(pulp::cast)
}

#[cfg(test)]
mod tests {
    use super::{Real, View, transpose, vectorised};

    /// Every size around that of the squares, in both types, from a wider matrix and into one.
    #[test]
    fn matches_the_definition() {
        fn holds<T: Real>() {
            for (rows, columns) in [(1, 1), (7, 9), (8, 8), (8, 17), (24, 16), (33, 40), (0, 3)] {
                let (wide, pitch) = (columns + 3, rows + 2);
                let x: Vec<T> = (0..rows * wide).map(|i| T::of(i as f64)).collect();
                let mut out = vec![-T::ONE; columns * pitch];
                let view = View::strided(&x, rows, columns, wide);
                vectorised!(transpose(&mut out, pitch, view));
                for (at, &y) in out.iter().enumerate() {
                    let (column, row) = (at / pitch, at % pitch);
                    let expected = if row < rows { x[row * wide + column] } else { -T::ONE };
                    assert!(y == expected, "{rows} {columns}: {at}");
                }
            }
        }
        holds::<f32>();
        holds::<f64>();
    }
}
