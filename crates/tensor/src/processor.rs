//! What the processor at hand can do, and loops compiled for it.

/// Does `$work` compiled for the widest vectors that this processor has.
///
/// A closure in it that is not `#[inline(always)]`, and whatever it calls that is not, is compiled apart
/// and for the oldest processor there is.
///
/// The compiler never joins a product and a sum into one rounding of its own accord, so the bits are
/// those of the plain compilation.
#[macro_export]
macro_rules! vectorised {
    ($work:expr) => {
        $crate::processor::widest(
            #[inline(always)]
            || $work,
        )
    };
}

/// What [`vectorised!`](crate::vectorised) calls. Its bound makes a closure one that is called once: of
/// any other kind, what calls it would not be inlined.
#[inline(always)]
pub fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// The widest vector instructions of this processor that matrix products and kernels use. Other
/// ones order sums differently, so bits are promised within one of these alone.
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
