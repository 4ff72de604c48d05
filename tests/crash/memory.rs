//! Memory of a running process.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::experiment::Scenario;

/// Resident KiB of the running program, sampled until it ends.
pub(crate) fn series(scenario: &Scenario, root: &Path) -> Vec<u64> {
    let mut child = scenario.command(root).stderr(Stdio::null()).spawn().expect("it starts");
    let mut samples = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        samples.extend(resident(child.id()));
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
    samples
}

fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

pub(crate) fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
