//! GEMM over slices: by the `gemm` crate, with checks, or by the microkernel for small matrices.

use std::any::TypeId;
use std::mem::MaybeUninit;
use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::microkernel::{Operands, Small};
use super::skinny::{FEW, few_rows};
use super::{Real, View, transpose};

/// Multiply-adds below which a product stays on the calling thread.
const SMALL: usize = 1 << 20;

/// Up to this many elements of the second operand, a product on one thread does not pack its
/// operands.
const NEAR: usize = 1 << 16;

/// Up to this inner size, the general product uses one running sum, like the microkernel.
const ONE_SUM: usize = 512;

/// Whether a product with this many multiply-adds is shared among threads.
pub(crate) fn parallelism(multiply_adds: usize) -> Parallelism {
    if multiply_adds < SMALL || rayon::current_num_threads() == 1 {
        Parallelism::None
    } else {
        Parallelism::Rayon(0)
    }
}

/// `out = a b`, with `out` dense and row-major.
pub(crate) fn matmul<T: Real>(out: &mut [T], a: View<'_, T>, b: View<'_, T>) {
    let parallel = parallelism(a.rows * a.cols * b.cols);
    matmul_into(out, false, T::ONE, a, b, parallel);
}

/// `scale a b` as a new dense, row-major matrix.
pub(crate) fn multiplied<T: Real>(scale: T, a: View<'_, T>, b: View<'_, T>) -> Vec<T> {
    let len = a.rows * b.cols;
    if a.cols == 0 {
        return vec![T::ZERO; len];
    }
    if let (1..=FEW, Some(x), Some(w)) = (a.rows, a.dense(), b.t().dense())
        && scale == T::ONE
    {
        assert_eq!(a.cols, b.rows, "inner sizes of a matrix product");
        return few_rows(x, w, a.rows, a.cols);
    }
    let mut out = Vec::with_capacity(len);
    let parallel = parallelism(a.rows * a.cols * b.cols);
    // SAFETY: `add` is false, and with an inner size above zero every element is written.
    unsafe {
        product(&mut out.spare_capacity_mut()[..len], false, scale, a, b, parallel);
        out.set_len(len);
    }
    out
}

/// `out += a b`, with `out` dense and row-major, or empty instead of zeros, which are then neither
/// written nor read.
pub(crate) fn add_product<T: Real>(out: &mut Vec<T>, a: View<'_, T>, b: View<'_, T>) {
    if out.is_empty() {
        *out = multiplied(T::ONE, a, b);
    } else {
        matmul_into(out, true, T::ONE, a, b, parallelism(a.rows * a.cols * b.cols));
    }
}

/// `out = scale a b`, or `out += scale a b` when `add`, with `out` dense and row-major.
pub(crate) fn matmul_into<T: Real>(
    out: &mut [T],
    add: bool,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
    parallel: Parallelism,
) {
    if a.cols == 0 {
        if !add {
            out.fill(T::ZERO);
        }
        return;
    }
    // SAFETY: `MaybeUninit<T>` has the layout of `T`; the elements are initialised, and `product`
    // writes only valid values.
    unsafe {
        let out = &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<T>]);
        product(out, add, scale, a, b, parallel);
    }
}

/// From this many rows of the first operand, a transposed second operand is worth transposing in
/// memory.
const MIN_ROWS_TO_TRANSPOSE: usize = 16;

/// Columns that are transposed together: as many as a product processes side by side, so that they
/// are still in the nearest caches.
const PANEL: usize = 64;

/// Rows of the first operand that a thread multiplies with one panel.
const BLOCK: usize = 512;

/// The product itself: writes every element of `out`. The inner size is not zero.
///
/// # Safety
/// With `add`, the elements of `out` must be initialised.
unsafe fn product<T: Real>(
    out: &mut [MaybeUninit<T>],
    add: bool,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
    parallel: Parallelism,
) {
    assert_eq!(a.cols, b.rows, "inner sizes of a matrix product");
    assert_eq!(out.len(), a.rows * b.cols, "output of a matrix product");
    if out.is_empty() {
        return;
    }
    let out = Parts { start: out.as_mut_ptr().cast::<T>(), pitch: b.cols };
    if a.rows < MIN_ROWS_TO_TRANSPOSE || b.row_stride != 1 || b.col_stride == 1 {
        // SAFETY: `out` is exclusive and as large as the product.
        unsafe { out.product(0, Product { add, scale, a, b, parallel }) };
        return;
    }
    // `gemm` would transpose `b` element by element, on one thread.
    let transposed_panel = |panel: &mut Vec<T>, first: usize, rows: Range<usize>| {
        let lines = PANEL.min(b.cols - first);
        panel.resize(b.rows * lines, T::ZERO);
        vectorised!(transpose(panel, lines, b.columns(first..first + lines).t()));
        let (a, b) = (a.rows(rows.clone()), View::new(panel, b.rows, lines));
        let parallel = Parallelism::None;
        let start = rows.start * out.pitch + first;
        // SAFETY: `out` is exclusive, and its parts do not overlap.
        unsafe { out.product(start, Product { add, scale, a, b, parallel }) };
    };
    let panels = b.cols.div_ceil(PANEL);
    match parallel {
        // The parts do not depend on the number of threads. Transposing a panel again for each
        // block of rows costs little compared with the product.
        Parallelism::Rayon(_) => {
            let parts = (0..panels * a.rows.div_ceil(BLOCK)).into_par_iter();
            parts.for_each_init(Vec::new, |panel, part| {
                let start = part / panels * BLOCK;
                transposed_panel(panel, part % panels * PANEL, start..a.rows.min(start + BLOCK));
            });
        }
        Parallelism::None => {
            let mut panel = Vec::new();
            (0..panels).for_each(|index| transposed_panel(&mut panel, index * PANEL, 0..a.rows));
        }
    }
}

/// The product to write: `scale a b`, or its sum with the old values.
#[derive(Clone, Copy)]
struct Product<'a, T> {
    add: bool,
    scale: T,
    a: View<'a, T>,
    b: View<'a, T>,
    parallel: Parallelism,
}

/// A dense, row-major matrix whose parts are written separately.
#[derive(Clone, Copy)]
struct Parts<T> {
    start: *mut T,
    pitch: usize,
}

// SAFETY: callers that write parts from several threads ensure that they do not overlap.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T: Real> Parts<T> {
    /// Writes the part that starts at the element `first`, with the rows of `a` and the columns of
    /// `b`. No size is zero.
    ///
    /// # Safety
    /// This part must exist, be exclusive to the caller and, with `add`, be initialised.
    unsafe fn product(&self, first: usize, of: Product<'_, T>) {
        // SAFETY: the part is exclusive and addressed with row stride `pitch` and column stride 1,
        // and read only with `add`. Each view is not empty here, so its constructor has asserted
        // that its last element lies inside its slice, and transposing changes no address; strides
        // are unsigned, so every other element lies before it.
        unsafe {
            if !self.small(first, of).is_some_and(|small| small.run()) {
                self.general(first, of);
            }
        }
    }

    /// The same as a product for the microkernel, if it is small enough.
    ///
    /// # Safety
    /// As for [`Parts::product`], until it has run.
    unsafe fn small(&self, first: usize, of: Product<'_, T>) -> Option<Small> {
        let Product { add, scale, a, b, parallel } = of;
        let alone = matches!(parallel, Parallelism::None);
        let near = b.rows * b.cols <= NEAR && b.rows <= ONE_SUM;
        // Matrix-vector and outer products are excluded, because `gemm` sums them in an order of
        // its own.
        let matrices = a.rows > 1 && self.pitch > 1 && b.rows > 2;
        let single = TypeId::of::<T>() == TypeId::of::<f32>();
        let operands = || Operands {
            sizes: [a.rows, a.cols, b.cols],
            a: a.data.as_ptr().cast(),
            a_strides: [a.row_stride, a.col_stride],
            b: b.data.as_ptr().cast(),
            b_pitch: b.row_stride,
            out: self.start.wrapping_add(first).cast(),
            out_pitch: self.pitch,
            add,
            scale: scale.wide() as f32,
        };
        let small = alone && near && matrices && single && b.col_stride == 1;
        // SAFETY: guaranteed by the caller, as in `product`.
        small.then(|| unsafe { Small::new(operands()) })
    }

    /// The same by the general product.
    ///
    /// # Safety
    /// As for [`Parts::product`].
    unsafe fn general(&self, first: usize, of: Product<'_, T>) {
        let Product { add, scale, a, b, parallel } = of;
        // SAFETY: as in `product`; `gemm` supports f32 and f64, the only implementors of `Real`. A
        // slice is at most isize::MAX bytes, so the casts are exact.
        unsafe {
            gemm::gemm(
                a.rows,
                b.cols,
                a.cols,
                self.start.add(first),
                1,
                self.pitch as isize,
                add,
                a.data.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                T::ONE,
                scale,
                false,
                false,
                false,
                parallel,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use gemm::Parallelism;

    use super::{ONE_SUM, Parts, Product, Real, View, add_product, matmul, matmul_into};
    use crate::kernel::transposed;

    /// Sizes with and without partial vectors, within the caches and beyond, few rows and many.
    const SIZES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (3, 0, 2),
        (1, 7, 5),
        (5, 7, 1),
        (4, 33, 9),
        (17, 2, 19),
        (23, 5, 150),
        (40, 64, 64),
        (18, 600, 70),
    ];

    #[test]
    fn matches_the_definition_for_every_orientation() {
        // Small integers, so that every sum is exact.
        fn holds<T: Real>((m, k, n): (usize, usize, usize)) {
            let numbers = |n: usize| -> Vec<T> {
                (0..n).map(|i| T::of(((i * 37) % 11) as f64 - 5.0)).collect()
            };
            let (a, b) = (numbers(m * k), numbers(k * n));
            let mut expected = vec![T::ZERO; m * n];
            for i in 0..m {
                for j in 0..n {
                    for l in 0..k {
                        expected[i * n + j] += a[i * k + l] * b[l * n + j];
                    }
                }
            }
            let columns_first = |x: &[T], rows: usize, columns: usize| -> Vec<T> {
                (0..rows * columns).map(|at| x[at % rows * columns + at / rows]).collect()
            };
            let (at, bt) = (columns_first(&a, m, k), columns_first(&b, k, n));
            let tripled: Vec<T> = expected.iter().map(|&x| T::of(3.0) * x).collect();
            for a in [View::new(&a, m, k), View::new(&at, k, m).t()] {
                for b in [View::new(&b, k, n), View::new(&bt, n, k).t()] {
                    let mut out = vec![T::of(f64::NAN); m * n];
                    matmul(&mut out, a, b);
                    assert!(out == expected, "{m} {k} {n}");
                    matmul_into(&mut out, true, T::of(2.0), a, b, gemm::Parallelism::None);
                    assert!(out == tripled, "{m} {k} {n}, added to");
                    let mut summed = Vec::new();
                    (0..3).for_each(|_| add_product(&mut summed, a, b));
                    assert!(summed == tripled, "{m} {k} {n}, three times");
                }
            }
        }
        for sizes in SIZES {
            holds::<f32>(sizes);
            holds::<f64>(sizes);
        }
    }

    /// The kernel and the thread count do not change the bits.
    #[test]
    fn bits_do_not_depend_on_the_way() {
        let source = |n: usize, seed: u32| -> Vec<f32> {
            (0..n as u32).map(|i| ((i * 7919 + seed) % 1009) as f32 / 1009.0 - 0.5).collect()
        };
        let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        let sizes = [
            (17, 3, 19),
            (23, 5, 150),
            (40, 64, 64),
            (200, 176, 64),
            (130, 257, 129),
            (17, 511, 70),
            (70, ONE_SUM, 128),
            (1100, 40, 70),
        ];
        for ((m, k, n), add) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
            let (a, bt) = (source(m * k, 1), source(n * k, 5));
            let b = transposed(&bt, k);
            let (a, b, bt) = (View::new(&a, m, k), View::new(&b, k, n), View::new(&bt, n, k).t());
            let of = Product { add, scale: 0.7, a, b, parallel: Parallelism::None };
            let start = source(m * n, 3);
            let mut general = start.clone();
            let out = Parts { start: general.as_mut_ptr(), pitch: n };
            // SAFETY: `general` has this size and is exclusive.
            unsafe { out.general(0, of) };
            let holds = |out: &[f32], what: &str| {
                let differs = bits(out).iter().zip(bits(&general)).position(|(a, b)| *a != b);
                assert_eq!(differs, None, "{m} {k} {n} {add}, {what}");
            };
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                // The vector width of most processors, whatever this one has.
                let mut out = start.clone();
                let parts = Parts { start: out.as_mut_ptr(), pitch: n };
                // SAFETY: `out` has this size and is exclusive.
                let small = unsafe { parts.small(0, of) };
                assert!(pulp::Simd::vectorize(simd, small.expect("a small product")));
                holds(&out, "vectors of eight");
            }
            for b in [b, bt] {
                for (threads, way) in [(1, Parallelism::None), (3, Parallelism::Rayon(0))] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let mut out = start.clone();
                    let pool = pool.expect("threads");
                    pool.install(|| matmul_into(&mut out, add, 0.7, a, b, way));
                    holds(&out, &format!("{threads} threads"));
                }
            }
        }
    }

    /// Partial vectors end with the columns.
    #[test]
    fn nothing_beside_a_part_is_written() {
        for (m, k, n) in [(7, 3, 1), (8, 4, 15), (9, 5, 17), (6, 9, 63), (13, 4, 70)] {
            let (a, b) = (vec![1.0_f32; m * k], vec![2.0_f32; k * n]);
            let pitch = n + 5;
            let mut out = vec![-1.0_f32; m * pitch];
            let parts = Parts { start: out.as_mut_ptr(), pitch };
            let (a, b) = (View::new(&a, m, k), View::new(&b, k, n));
            let of = Product { add: false, scale: 1.0, a, b, parallel: Parallelism::None };
            // SAFETY: `out` has this size and is exclusive.
            unsafe { parts.product(2, of) };
            for (at, &y) in out.iter().enumerate() {
                let inside = (2..n + 2).contains(&(at % pitch));
                assert_eq!(y, if inside { 2.0 * k as f32 } else { -1.0 }, "{m} {k} {n}: {at}");
            }
        }
    }
}
