//! Row-parallel loops: shared among rayon's threads if there is enough work.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use vxf_tensor::vectorised;

use super::Real;
use super::reduce::add_scaled;

/// Elements per work item. Fixed, so that no result depends on the thread count.
const GRAIN: usize = 1 << 13;
/// Elements that are zeroed at a time: few enough to be still in the L1 cache when they are
/// written, and below the size at which `memset` bypasses the cache.
const NEAR: usize = 1 << 9;
/// Below this many elements, waking other threads costs more than it saves.
const SMALL: usize = 1 << 15;

/// Whether a loop over `elements` is worth sharing among the threads of the current pool.
pub(crate) fn worth_sharing(elements: usize) -> bool {
    elements >= SMALL && rayon::current_num_threads() > 1
}

/// Calls `work(first row, rows)` for blocks of whole rows of `unit` elements, in any order.
pub(crate) fn blocks<A: Send>(
    rows: &mut [A],
    unit: usize,
    work: impl Fn(usize, &mut [A]) + Send + Sync,
) {
    if rows.is_empty() {
        return;
    }
    let step = (GRAIN / unit).max(1);
    if worth_sharing(rows.len()) {
        let chunks = rows.par_chunks_mut(step * unit).enumerate();
        chunks.for_each(|(i, chunk)| vectorised!(work(i * step, chunk)));
    } else {
        vectorised!(work(0, rows));
    }
}

/// A new vector of `len` elements that `work(first row, rows)` fills, as [`blocks`] calls it.
///
/// Blocks are smaller than there, and zero when `work` gets them. They are zeroed right before use,
/// without a separate pass over memory.
pub(crate) fn filled<T: Real>(
    len: usize,
    unit: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    blocks(
        &mut out.spare_capacity_mut()[..len],
        unit,
        #[inline(always)]
        |first, block| {
            let step = (NEAR / unit).max(1);
            for (i, block) in block.chunks_mut(step * unit).enumerate() {
                work(first + i * step, cleared(block));
            }
        },
    );
    // SAFETY: `blocks` passes every element to its closure once, which writes it; after a panic
    // this line is not reached.
    unsafe { out.set_len(len) };
    out
}

/// The same for two vectors of `len` elements.
pub(crate) fn filled2<T: Real>(
    len: usize,
    work: impl Fn(usize, &mut [T], &mut [T]) + Send + Sync,
) -> (Vec<T>, Vec<T>) {
    let (mut a, mut b) = (Vec::with_capacity(len), Vec::with_capacity(len));
    let spare = (&mut a.spare_capacity_mut()[..len], &mut b.spare_capacity_mut()[..len]);
    blocks2(
        (spare.0, 1),
        (spare.1, 1),
        #[inline(always)]
        |first, a, b| {
            for (i, (a, b)) in a.chunks_mut(NEAR).zip(b.chunks_mut(NEAR)).enumerate() {
                work(first + i * NEAR, cleared(a), cleared(b));
            }
        },
    );
    // SAFETY: as in `filled`; both slices have `len` rows of one element.
    unsafe {
        a.set_len(len);
        b.set_len(len);
    }
    (a, b)
}

/// Initialises elements with zeros.
#[inline(always)]
fn cleared<T: Real>(block: &mut [MaybeUninit<T>]) -> &mut [T] {
    block.iter_mut().for_each(|element| {
        element.write(T::ZERO);
    });
    // SAFETY: every element has just been written, and `MaybeUninit<T>` has the layout of `T`.
    unsafe { &mut *(std::ptr::from_mut(block) as *mut [T]) }
}

/// The same over two outputs with rows of `unit_a` and `unit_b` elements; the first is the larger.
pub(crate) fn blocks2<A: Send, B: Send>(
    (a, unit_a): (&mut [A], usize),
    (b, unit_b): (&mut [B], usize),
    work: impl Fn(usize, &mut [A], &mut [B]) + Send + Sync,
) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    let step = (GRAIN / unit_a).max(1);
    if worth_sharing(a.len()) {
        let chunks = a.par_chunks_mut(step * unit_a).zip(b.par_chunks_mut(step * unit_b));
        chunks.enumerate().for_each(|(i, (a, b))| vectorised!(work(i * step, a, b)));
    } else {
        vectorised!(work(0, a, b));
    }
}

/// Rows per partial sum. Fixed, so that the order of additions does not depend on the thread count.
const GROUP: usize = 64;

/// The sum over rows of a vector of `width` elements each; `add(row, sum)` adds that of `row`.
pub(crate) fn sum_over_rows<T: Real>(
    rows: usize,
    width: usize,
    add: impl Fn(usize, &mut [T]) + Send + Sync,
) -> Vec<T> {
    let mut total = vec![T::ZERO; width];
    if rows == 0 || width == 0 {
        return total;
    }
    let mut partial = vec![T::ZERO; rows.div_ceil(GROUP) * width];
    blocks(
        &mut partial,
        width,
        #[inline(always)]
        |first, partial| {
            for (group, sum) in (first..).zip(partial.chunks_exact_mut(width)) {
                // A loop, because the closure of an iterator's `for_each` would not be inlined.
                for row in group * GROUP..rows.min((group + 1) * GROUP) {
                    add(row, sum);
                }
            }
        },
    );
    for part in partial.chunks_exact(width) {
        add_scaled(&mut total, T::ONE, part);
    }
    total
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{GRAIN, SMALL, filled, filled2, sum_over_rows};

    /// Closures of vectorised functions must be inlined: otherwise they are compiled without wide
    /// vectors, which shows only as lost speed.
    #[test]
    fn every_vectorised_closure_is_inlined() {
        let calls = ["blocks(", "blocks2(", "filled(", "filled2(", "sum_over_rows("];
        let mut seen = 0;
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("a source file");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                for call in calls {
                    for (at, _) in code.match_indices(call) {
                        let before = &code[..at];
                        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                            || before.ends_with("fn ")
                        {
                            continue;
                        }
                        let until = code[at..].split('|').next().unwrap_or_default();
                        let line = 1 + before.matches('\n').count();
                        let path = path.display();
                        assert!(until.contains("#[inline(always)]"), "{path}:{line}: {call}");
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 10, "{seen} calls");
    }

    /// Every element is zero when it is passed to the closure and keeps the written value, in one
    /// block and in many, on one thread and on several.
    #[test]
    fn every_element_is_filled_once() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| {
                for (rows, unit) in [(0, 1), (1, 1), (7, 5), (SMALL / 2, 3), (3, 2 * GRAIN)] {
                    let made = filled::<f32>(rows * unit, unit, |first, block| {
                        for (row, values) in (first..).zip(block.chunks_exact_mut(unit)) {
                            values.iter_mut().for_each(|value| *value += row as f32);
                        }
                    });
                    let rows_of = |at: usize| (at / unit) as f32;
                    assert!(made.iter().enumerate().all(|(at, &value)| value == rows_of(at)));
                    assert_eq!(made.len(), rows * unit);
                }
                for len in [0, 5, SMALL + 3] {
                    let (a, b) = filled2::<f64>(len, |first, a, b| {
                        for (at, (a, b)) in (first..).zip(a.iter_mut().zip(b)) {
                            (*a, *b) = (*a + at as f64, *b - at as f64);
                        }
                    });
                    let pairs = a.iter().zip(&b).enumerate();
                    assert!(pairs.clone().all(|(at, (&a, &b))| a == at as f64 && b == -a));
                    assert_eq!(pairs.count(), len);
                }
                let sums = sum_over_rows::<f64>(1000, 3, |row, sum| {
                    sum.iter_mut().for_each(|sum| *sum += row as f64);
                });
                assert_eq!(sums, [499_500.0; 3]);
            });
        }
    }

    /// After a panic the memory is freed without being read.
    #[test]
    fn a_panic_leaves_nothing_behind() {
        let failed = std::panic::catch_unwind(|| {
            filled::<f64>(10, 1, |_, block| {
                block[0] = 1.0;
                panic!("half way");
            })
        });
        assert!(failed.is_err());
    }
}
