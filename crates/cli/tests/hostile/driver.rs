//! Runs one format: draws cases, reads them, and checks the limits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::meter::metered;
use crate::mutate::{Draw, mutate};

/// Reads a directory; an error is the message that a user would see.
type Reader = Box<dyn Fn(&Path) -> Result<(), String>>;

/// A file format and its reader.
pub(crate) struct Format {
    /// The file to mutate, within the format's directory.
    pub(crate) file: &'static str,
    /// Valid contents.
    pub(crate) specimens: Vec<Vec<u8>>,
    /// Words with a meaning in the format.
    pub(crate) words: &'static [&'static str],
    /// Reads the directory.
    pub(crate) read: Reader,
    /// Messages must contain at least one of these: the file's name, or the name of something in it.
    pub(crate) named: &'static [&'static str],
    /// Memory in bytes that reading may take, beyond twice the file's size.
    pub(crate) memory: usize,
}

/// A case that runs longer than this counts as hanging.
const STANDSTILL: Duration = Duration::from_secs(120);

/// A longer message quotes too much of a file.
const LONGEST_MESSAGE: usize = 1 << 20;

struct Limits {
    cases: u64,
    seconds: Option<u64>,
    seed: u64,
}

impl Limits {
    fn from_env() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text}")))
        };
        Self {
            cases: number("VXF_HOSTILE_CASES").unwrap_or(2_000),
            seconds: number("VXF_HOSTILE_SECONDS"),
            seed: number("VXF_HOSTILE_SEED").unwrap_or(1),
        }
    }

    fn reached(&self, cases: u64, began: Instant) -> bool {
        match self.seconds {
            Some(seconds) => began.elapsed().as_secs() >= seconds,
            None => cases >= self.cases,
        }
    }
}

/// A running case, for the thread that checks that it ends.
struct Watch(Arc<AtomicU64>);

impl Watch {
    #[allow(
        clippy::disallowed_methods,
        reason = "a case that never returns fails no test otherwise"
    )]
    fn new(name: &'static str, file: PathBuf) -> Self {
        let case = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&case);
        std::thread::spawn(move || {
            let (mut last, mut since) = (0, Instant::now());
            while let Some(now) = seen.upgrade().map(|case| case.load(Ordering::Relaxed)) {
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if now > 0 && since.elapsed() > STANDSTILL {
                    eprintln!("{name}: case {now} stands still; its file is {}", file.display());
                    std::process::exit(101);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self(case)
    }

    fn at(&self, case: u64) {
        self.0.store(case, Ordering::Relaxed);
    }
}

/// A directory for a format's files, in memory if the system has such a file system.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// Hides panics that parsers turn into errors, as the program does: printing one takes more memory than
/// the file.
#[allow(clippy::disallowed_methods, reason = "a test program's own hook")]
pub(crate) fn quieten() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !vxf_untrusted::is_panic_expected() {
                hook(panic);
            }
        }));
    });
}

/// Runs the cases of a format.
pub(crate) fn run(name: &'static str, format: fn(&Path) -> Format) {
    quieten();
    let limits = Limits::from_env();
    let scratch = scratch();
    let format = format(scratch.path());
    let file = scratch.path().join(format.file);
    for (number, specimen) in format.specimens.iter().enumerate() {
        std::fs::write(&file, specimen).expect("it can be written");
        let (told, usage) = metered(|| (format.read)(scratch.path()));
        told.unwrap_or_else(|error| panic!("specimen {number} must be read: {error}"));
        assert!(usage.peak < format.memory, "specimen {number}: {usage:?}");
    }
    let watch = Watch::new(name, file.clone());
    let of_name = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(131) + u64::from(byte));
    let (began, mut case, mut accepted) = (Instant::now(), 0, 0_u64);
    let (mut slowest, mut most, mut largest) = (Duration::ZERO, 0, 0);
    while !limits.reached(case, began) {
        let seed = limits.seed.wrapping_mul(0x1000_0001).wrapping_add(of_name);
        let mut draw = Draw::new(seed.wrapping_add(case.wrapping_mul(0x0001_0000_0001_0001)));
        let specimen = draw.below(format.specimens.len());
        let other = draw.below(format.specimens.len());
        let mut bytes = format.specimens[specimen].clone();
        mutate(&mut draw, &mut bytes, &format.specimens[other], format.words);
        std::fs::write(&file, &bytes).expect("it can be written");
        case += 1;
        watch.at(case);
        let start = Instant::now();
        let (told, usage) =
            metered(|| catch_unwind(AssertUnwindSafe(|| (format.read)(scratch.path()))));
        let took = start.elapsed();
        let fail = |problem: String| -> ! {
            let kept =
                std::env::temp_dir().join(format!("vxf-hostile-{name}-{}-{case}", limits.seed));
            std::fs::write(&kept, &bytes).expect("it can be written");
            panic!("{name}, case {case}: {problem}; the file is kept as {}", kept.display());
        };
        match told {
            Err(_) => fail("reading it panicked".to_owned()),
            Ok(Ok(())) => accepted += 1,
            Ok(Err(error)) => {
                if !format.named.iter().any(|name| error.contains(name)) {
                    fail(format!("none of {:?} in: {error}", format.named));
                }
                if error.len() > LONGEST_MESSAGE + bytes.len() {
                    fail(format!("a message of {} bytes", error.len()));
                }
            }
        }
        let bound = 2 * bytes.len() + format.memory;
        if usage.peak > bound || usage.largest > bound {
            fail(format!("{usage:?} for a file of {} bytes", bytes.len()));
        }
        slowest = slowest.max(took);
        most = most.max(usage.peak.saturating_sub(2 * bytes.len()));
        largest = largest.max(usage.largest);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{name}: {case} cases in {seconds:.1} s, {accepted} accepted; slowest {slowest:.1?}, at \
         most {:.2} MiB beyond twice the file, largest allocation {:.2} MiB",
        most as f64 / f64::from(1 << 20),
        largest as f64 / f64::from(1 << 20),
    );
}
