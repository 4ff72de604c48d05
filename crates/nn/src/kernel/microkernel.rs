//! A GEMM microkernel for matrices that fit into the nearest caches.
//!
//! A general GEMM allocates memory and packs its operands, which for matrices of some tens of rows
//! and columns costs a sixth of the time. Here both operands are read in place. An element is one
//! running sum in the order of the inner index, with one rounding per product (FMA). So the bits
//! are those of the general GEMM, whatever the tiles.

use pulp::{Simd, WithSimd};

/// Rows of the output in one tile.
const ROWS: usize = 6;

/// The operands of a product `out = scale a b`, or `out += scale a b` with `add`.
///
/// `a` is `[m, k]` with any strides; the rows of `b` `[k, n]` and of `out` `[m, n]` are contiguous.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) sizes: [usize; 3],
    pub(super) a: *const f32,
    pub(super) a_strides: [usize; 2],
    pub(super) b: *const f32,
    pub(super) b_pitch: usize,
    pub(super) out: *mut f32,
    pub(super) out_pitch: usize,
    pub(super) add: bool,
    pub(super) scale: f32,
}

/// A product, ready to be computed once.
pub(super) struct Small(Operands);

impl Small {
    /// # Safety
    /// Until it has run, every element of `a`, `b` and `out` must be valid at its address. The
    /// elements of `out` must be exclusive to the owner of this value and, with `add`, initialised.
    pub(super) unsafe fn new(operands: Operands) -> Self {
        Self(operands)
    }

    /// Computes it. Does nothing and returns false if the processor has no vectorised FMA.
    pub(super) fn run(self) -> bool {
        pulp::Arch::new().dispatch(self)
    }
}

impl WithSimd for Small {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        match S::F32_LANES {
            // As many sums as fit into registers together with the operands.
            16.. => self.columns::<S, 4>(simd),
            4.. => self.columns::<S, 2>(simd),
            _ => return false,
        }
        true
    }
}

impl Small {
    /// Loops over the output by `WIDE` vectors of columns.
    #[inline(always)]
    fn columns<S: Simd, const WIDE: usize>(&self, simd: S) {
        let columns = self.0.sizes[2];
        let mut first = 0;
        while first < columns {
            let left = columns - first;
            match left.div_ceil(S::F32_LANES).min(WIDE) {
                1 => self.rows::<S, 1>(simd, first),
                2 => self.rows::<S, 2>(simd, first),
                3 => self.rows::<S, 3>(simd, first),
                _ => self.rows::<S, 4>(simd, first),
            }
            first += WIDE * S::F32_LANES;
        }
    }

    /// All rows of `WIDE` vectors of columns, of which the last may be partial.
    #[inline(always)]
    fn rows<S: Simd, const WIDE: usize>(&self, simd: S, first: usize) {
        let last = (self.0.sizes[2] - first).min(WIDE * S::F32_LANES) - (WIDE - 1) * S::F32_LANES;
        match last == S::F32_LANES {
            true => self.tiles::<S, WIDE, true>(simd, first, last),
            false => self.tiles::<S, WIDE, false>(simd, first, last),
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const WIDE: usize, const WHOLE: bool>(
        &self,
        simd: S,
        first: usize,
        last: usize,
    ) {
        let rows = self.0.sizes[0];
        let mut row = 0;
        while rows - row >= ROWS {
            self.tile::<S, ROWS, WIDE, WHOLE>(simd, (row, first), last);
            row += ROWS;
        }
        match rows - row {
            0 => {}
            1 => self.tile::<S, 1, WIDE, WHOLE>(simd, (row, first), last),
            2 => self.tile::<S, 2, WIDE, WHOLE>(simd, (row, first), last),
            3 => self.tile::<S, 3, WIDE, WHOLE>(simd, (row, first), last),
            4 => self.tile::<S, 4, WIDE, WHOLE>(simd, (row, first), last),
            _ => self.tile::<S, 5, WIDE, WHOLE>(simd, (row, first), last),
        }
    }

    /// `HIGH` rows by `WIDE` vectors of columns; the last vector has `last` elements.
    #[inline(always)]
    fn tile<S: Simd, const HIGH: usize, const WIDE: usize, const WHOLE: bool>(
        &self,
        simd: S,
        (row, column): (usize, usize),
        last: usize,
    ) {
        let Operands { sizes, a, b, out, add, .. } = self.0;
        let [down, along] = self.0.a_strides;
        // SAFETY: the caller of `new` guarantees that every element of the operands is valid, and
        // that the output is exclusive. The loops above divide the output into tiles within it; a
        // partial vector is read and written up to `last`. Unaligned reads and writes need the
        // alignment of an element only.
        unsafe {
            let real = simd.mask_between_m32s(0, last as u32);
            let load = |at: *const f32, vector: usize| match WHOLE || vector + 1 < WIDE {
                true => at.cast::<S::f32s>().read_unaligned(),
                false => simd.mask_load_ptr_f32s(real, at),
            };
            let mut sums = [[simd.splat_f32s(0.0); WIDE]; HIGH];
            let mut a = a.add(row * down);
            let mut b = b.add(column);
            for _ in 0..sizes[1] {
                let mut vectors = [simd.splat_f32s(0.0); WIDE];
                for (vector, to) in vectors.iter_mut().enumerate() {
                    *to = load(b.add(vector * S::F32_LANES), vector);
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let factor = simd.splat_f32s(*a.add(i * down));
                    for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                        *sum = simd.mul_add_f32s(factor, vector, *sum);
                    }
                }
                a = a.wrapping_add(along);
                b = b.wrapping_add(self.0.b_pitch);
            }
            let scale = simd.splat_f32s(self.0.scale);
            for (i, sums) in sums.iter().enumerate() {
                let out = out.add((row + i) * self.0.out_pitch + column);
                for (vector, &sum) in sums.iter().enumerate() {
                    let out = out.add(vector * S::F32_LANES);
                    let value = match add {
                        true => simd.mul_add_f32s(scale, sum, load(out, vector)),
                        false => simd.mul_f32s(scale, sum),
                    };
                    match WHOLE || vector + 1 < WIDE {
                        true => out.cast::<S::f32s>().write_unaligned(value),
                        false => simd.mask_store_ptr_f32s(real, out, value),
                    }
                }
            }
        }
    }
}
