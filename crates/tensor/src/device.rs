//! Out-of-memory errors of a device.

/// A GPU has less free memory than requested. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Requested bytes, if known.
    pub asked: Option<usize>,
    /// Free bytes at that time.
    pub free: usize,
    /// Total bytes.
    pub total: usize,
}

/// Returns the sizes if `error` is an out-of-memory error of a GPU.
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
