//! Kills a process, and looks at what it was doing.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use vxf_core::Key;

use crate::experiment::Scenario;

const SIGKILL: i32 = 9;

/// When to strike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// In the first moments, which is where a process goes back to a checkpoint.
    Start,
    /// At any time.
    Anywhere,
    /// As soon as something is being written, after any time.
    Writing,
}

/// What was hit.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Kills of processes that had not finished.
    pub(crate) kills: u64,
    /// Those that left something half-written.
    pub(crate) writing: u64,
    /// Those of a process that had a checkpoint to go back to and had got no further.
    pub(crate) resuming: u64,
    /// Steps that did not have to be taken again, over all starts.
    pub(crate) resumed_steps: u64,
}

pub(crate) struct Killer {
    pub(crate) tally: Tally,
    key: Key,
    draws: u64,
    /// How long a process that was left alone took.
    usual: Duration,
}

impl Killer {
    pub(crate) fn new(seed: u64) -> Self {
        let usual = Duration::from_secs(2);
        Self { tally: Tally::default(), key: Key::root(seed).child("kill"), draws: 0, usual }
    }

    /// Uniform in 0 to 1.
    fn draw(&mut self) -> f64 {
        use rand::Rng;
        self.draws += 1;
        self.key.index(self.draws).rng().random()
    }

    /// Starts the program in `root` and kills it. Whether it finished before that.
    pub(crate) fn strike(&mut self, scenario: &Scenario, root: &Path, aim: Aim) -> bool {
        let before = checkpoints(root);
        let delay = self.usual.mul_f64(match aim {
            Aim::Start => 0.2 * self.draw(),
            Aim::Anywhere | Aim::Writing => self.draw(),
        });
        let mut child = scenario.command(root).stderr(Stdio::null()).spawn().expect("it starts");
        let began = Instant::now();
        while began.elapsed() < delay || (aim == Aim::Writing && half_written(root).is_empty()) {
            if let Some(status) = child.try_wait().expect("a child") {
                assert!(status.success(), "{}: {status}", scenario.name);
                self.usual = began.elapsed();
                return true;
            }
            if began.elapsed() < delay {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        if !kill(&mut child) {
            return true;
        }
        self.tally.kills += 1;
        self.tally.writing += u64::from(!half_written(root).is_empty());
        self.tally.resuming += u64::from(!before.is_empty() && checkpoints(root) == before);
        self.tally.resumed_steps += before.iter().filter_map(|path| step(path)).max().unwrap_or(0);
        false
    }
}

/// Whether the kill is what ended it.
fn kill(child: &mut Child) -> bool {
    // One that has just ended by itself cannot be killed, and is told apart by its status.
    let _ = child.kill();
    let status = child.wait().expect("a child");
    match status.signal() {
        Some(signal) => assert_eq!(signal, SIGKILL),
        None => assert!(status.success(), "{status}"),
    }
    status.signal().is_some()
}

/// What lies in `root`, as deep as checkpoints do, that satisfies `wanted`.
fn find(root: &Path, wanted: &dyn Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    // experiment / checkpoints / label / ratio / seed / checkpoint
    let mut level = vec![root.to_owned()];
    for _ in 0..5 {
        let entries =
            level.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
        let entries: Vec<_> = entries.collect();
        let name = |entry: &std::fs::DirEntry| wanted(&entry.file_name().to_string_lossy());
        found.extend(entries.iter().filter(|entry| name(entry)).map(std::fs::DirEntry::path));
        level = entries.iter().map(std::fs::DirEntry::path).collect();
    }
    found
}

fn half_written(root: &Path) -> BTreeSet<PathBuf> {
    find(root, &|name| name.starts_with(".partial-"))
}

fn checkpoints(root: &Path) -> BTreeSet<PathBuf> {
    find(root, &|name| name.starts_with("step-"))
}

fn step(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}
