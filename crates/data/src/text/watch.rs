//! The last bound on a template: time and memory that the engine does not charge for.
//!
//! A list that holds one list many times over is cheap to make; turned into a text, or compared, it
//! is as large as it looks, and nothing inside the engine can stop that. So whoever renders is
//! watched from another thread, and where neither fuel nor length ends a template, the process ends
//! with a word about it. Nothing is lost by that: what a run has finished is on disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// The longest rendering. The steps that the engine allows take a fraction of a second.
const LONGEST: Duration = Duration::from_secs(10);

/// What memory may grow by while a template is rendered, once that takes longer than any should.
const MOST_MEMORY: u64 = 2 << 30;

/// From when on memory is looked at: whatever else grows meanwhile is not the template's.
const SUSPICIOUS: Duration = Duration::from_secs(1);

const INTERVAL: Duration = Duration::from_millis(100);

/// A rendering in progress.
struct Rendering {
    number: u64,
    template: PathBuf,
    begun: Instant,
    /// Memory when it was first seen.
    memory: Option<u64>,
}

struct Renderings {
    all: Vec<Rendering>,
    next: u64,
}

static RENDERINGS: Mutex<Renderings> = Mutex::new(Renderings { all: Vec::new(), next: 0 });
static BEGUN: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Renderings> {
    RENDERINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a rendering off the list, also when it panics.
struct Entry(u64);

impl Drop for Entry {
    fn drop(&mut self) {
        lock().all.retain(|rendering| rendering.number != self.0);
    }
}

/// What `render` gives; if it takes too long or too much, the process ends.
pub(super) fn over<T>(template: &Path, render: impl FnOnce() -> T) -> T {
    static WATCHER: Once = Once::new();
    WATCHER.call_once(|| {
        // Without a thread to spare, fuel and length are bounds still.
        let _ = std::thread::Builder::new().name("template watch".into()).spawn(watch);
    });
    let entry = {
        let mut renderings = lock();
        let number = renderings.next;
        renderings.next += 1;
        let (template, begun) = (template.to_owned(), Instant::now());
        renderings.all.push(Rendering { number, template, begun, memory: None });
        BEGUN.notify_one();
        Entry(number)
    };
    let given = render();
    drop(entry);
    given
}

fn watch() {
    loop {
        let idle = |renderings: &mut Renderings| renderings.all.is_empty();
        let waited = BEGUN.wait_while(lock(), idle);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        std::thread::sleep(INTERVAL);
        let now = memory();
        for rendering in &mut lock().all {
            let before = *rendering.memory.get_or_insert(now);
            if let Some(problem) = verdict(rendering.begun.elapsed(), before, now) {
                let template = rendering.template.display();
                // Whoever would have read it may be gone, which must not keep the process alive.
                let mut out = std::io::stderr();
                let _ = writeln!(out, "error: the chat template {template}: {problem}");
                std::process::exit(1);
            }
        }
    }
}

/// Why a rendering cannot go on.
fn verdict(elapsed: Duration, before: u64, now: u64) -> Option<String> {
    if elapsed > LONGEST {
        return Some(format!("takes more than {} s", LONGEST.as_secs()));
    }
    let grown = now.saturating_sub(before);
    let greedy = elapsed > SUSPICIOUS && grown > MOST_MEMORY;
    greedy.then(|| format!("takes more than {} GiB of memory", MOST_MEMORY >> 30))
}

/// Bytes that this process has in memory; 0 where the system does not say.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_bounds() {
        let seconds = Duration::from_secs;
        assert_eq!(verdict(seconds(2), 1 << 30, 2 << 30), None);
        assert_eq!(verdict(Duration::from_millis(300), 0, 8 << 30), None, "another's memory");
        assert!(verdict(seconds(2), 0, 3 << 30).is_some_and(|told| told.contains("2 GiB")));
        assert!(verdict(seconds(11), 0, 0).is_some_and(|told| told.contains("10 s")));
        #[cfg(target_os = "linux")]
        assert!(memory() > 1 << 20);
    }

    #[test]
    fn what_is_done_is_watched_no_more() {
        let seen =
            over(Path::new("a"), || lock().all.iter().any(|it| it.template == Path::new("a")));
        assert!(seen);
        let panicked = std::panic::catch_unwind(|| {
            over(Path::new("b"), || -> u8 { std::panic::resume_unwind(Box::new(())) })
        });
        assert!(panicked.is_err() && lock().all.iter().all(|it| it.template != Path::new("b")));
    }
}
