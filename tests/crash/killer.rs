//! Kills a process and records what it was doing.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use vxf_core::Key;

use crate::experiment::Scenario;

const SIGKILL: i32 = 9;

/// When to kill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// In the first moments, where a process resumes from a checkpoint.
    Start,
    /// At any time.
    Anywhere,
    /// During a write, after a random time.
    Writing,
}

/// Counts of kills.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Kills of processes that had not finished.
    pub(crate) kills: u64,
    /// Kills that left a partial file.
    pub(crate) writing: u64,
    /// Kills of a process that was still resuming from a checkpoint.
    pub(crate) resuming: u64,
    /// Steps restored from checkpoints, over all starts.
    pub(crate) resumed_steps: u64,
}

pub(crate) struct Killer {
    pub(crate) tally: Tally,
    key: Key,
    draws: u64,
    /// How long an undisturbed process takes.
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

    /// Starts the program in `root` and kills it. Returns whether it finished before that.
    pub(crate) fn strike(&mut self, scenario: &Scenario, root: &Path, aim: Aim) -> bool {
        let before = checkpoints(root);
        let delay = self.usual.mul_f64(match aim {
            Aim::Start => 0.1 * self.draw(),
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

/// Whether the kill ended it.
fn kill(child: &mut Child) -> bool {
    // A process that has just ended cannot be killed; its status shows that.
    let _ = child.kill();
    let status = child.wait().expect("a child");
    match status.signal() {
        Some(signal) => assert_eq!(signal, SIGKILL),
        None => assert!(status.success(), "{status}"),
    }
    status.signal().is_some()
}

/// The entries below `root`, as deep as checkpoints, whose names are `wanted`.
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
