//! What a device says of its memory.

/// A GPU that has less free memory than was asked for. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Asked for, where that is known.
    pub asked: Option<usize>,
    /// Free at that time.
    pub free: usize,
    /// In all.
    pub total: usize,
}

/// Returns what was missing, if `error` says that a GPU is out of memory.
///
/// Always `None` without the feature `cuda`.
pub fn out_of_memory(error: &candle_core::Error) -> Option<OutOfMemory> {
    #[cfg(feature = "cuda")]
    if let Some(asked) = vxf_cuda::out_of_memory(error) {
        let (free, total) = vxf_cuda::free_and_total().unwrap_or_default();
        return Some(OutOfMemory { asked, free, total });
    }
    let _ = error;
    None
}
