//! Measures the memory of a parser; counted per thread, so that formats can run side by side.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Memory allocated by a thread since counting began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    live: isize,
    /// The most bytes held at once.
    pub(crate) peak: usize,
    /// The largest single allocation.
    pub(crate) largest: usize,
}

thread_local! {
    static USAGE: Cell<Option<Usage>> = const { Cell::new(None) };
}

/// Runs `work` and measures its memory.
pub(crate) fn metered<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    USAGE.set(Some(Usage::default()));
    let given = work();
    (given, USAGE.take().unwrap_or_default())
}

struct Meter;

fn count(size: usize, change: isize) {
    // A thread that is ending has no counter any more.
    let _ = USAGE.try_with(|usage| {
        if let Some(mut now) = usage.get() {
            now.live += change;
            now.peak = now.peak.max(usize::try_from(now.live).unwrap_or(0));
            now.largest = now.largest.max(size);
            usage.set(Some(now));
        }
    });
}

// SAFETY: all calls are passed to the system's allocator unchanged; counting does not allocate.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, size as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static METER: Meter = Meter;

#[test]
fn the_meter_counts() {
    let (held, usage) = metered(|| {
        let large = vec![1_u8; 3 << 20];
        drop(large);
        vec![1_u8; 1 << 20]
    });
    assert_eq!(held.len(), 1 << 20);
    assert_eq!(usage.largest, 3 << 20);
    assert!((3 << 20..(3 << 20) + 4096).contains(&usage.peak), "{usage:?}");
}
