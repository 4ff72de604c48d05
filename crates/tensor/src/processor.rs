//! SIMD dispatch: loops compiled for the vector instructions of this processor.

/// Runs `$work` compiled for the widest vectors that this processor has.
///
/// Closures and functions that it calls must be `#[inline(always)]`; others are compiled separately,
/// for the baseline processor.
///
/// The compiler never fuses a multiplication and an addition on its own, so the bits equal those of
/// the baseline compilation.
#[macro_export]
macro_rules! vectorised {
    ($work:expr) => {
        $crate::processor::widest(
            #[inline(always)]
            || $work,
        )
    };
}

/// Calls `work` for [`vectorised!`](crate::vectorised). The `FnOnce` bound matters: a closure called more
/// than once would not be inlined.
#[inline(always)]
pub fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// The widest vector instructions of this processor that GEMM and kernels use. Others order sums
/// differently, so results are bit-identical only on processors with the same answer.
pub fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512f";
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            return "avx2+fma";
        }
        return "sse2";
    }
    #[allow(unreachable_code, reason = "every other architecture has one set of them")]
    "default"
}

/// The number of elements of `T` in the widest vectors of this processor.
pub fn lanes<T>() -> usize {
    /// Bytes of a vector without AVX-512.
    const NARROW: usize = 32;
    let bytes = if instructions() == "avx512f" { 2 * NARROW } else { NARROW };
    bytes / size_of::<T>()
}
