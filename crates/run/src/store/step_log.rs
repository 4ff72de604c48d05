//! The log of a stage, with one row per step.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use vxf_report::Followed;

use super::disk::Disk;
use crate::{Error, Result};

/// Rows are written at least this often, for whoever watches the file.
const PATIENCE: Duration = Duration::from_secs(1);
/// Size limit of rows not yet written, in bytes.
const MOST_PENDING: usize = 1 << 16;

/// The part of a log that belongs to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    bytes: u64,
    sha256: String,
}

/// The parts of a row that are read again.
#[derive(Deserialize)]
struct Row {
    kind: String,
    step: u64,
    #[serde(default)]
    figures: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    samples: u64,
    #[serde(default)]
    row: Option<vxf_report::Row>,
}

/// Samples that were trained on in the first `steps` steps, with `batch` samples a step out of a set of
/// `set`; the last step of an epoch has fewer.
pub(crate) fn samples(steps: u64, set: usize, batch: usize) -> u64 {
    let (set, batch) = (set as u64, batch.max(1) as u64);
    let an_epoch = set.div_ceil(batch).max(1);
    steps / an_epoch * set + (steps % an_epoch * batch).min(set)
}

/// The figures in the log at `path` that were measured during training, by step.
pub(crate) fn measurements(path: &Path) -> Result<Vec<Followed>> {
    let mut all: Vec<Followed> = Vec::new();
    for_each(path, |Row { step, samples, row, .. }| {
        let Some(row) = row else { return };
        match all.last_mut().filter(|last| last.step == step) {
            Some(last) => last.rows.push(row),
            None => all.push(Followed { step, samples, rows: vec![row] }),
        }
    })?;
    Ok(all)
}

/// The steps (counted from 1) in the log at `path`, with their losses.
pub(crate) fn losses(path: &Path) -> Result<Vec<(u64, f64)>> {
    let mut losses = Vec::new();
    for_each(path, |row: Row| {
        let loss = row.figures.get("loss").copied().flatten().filter(|_| row.kind == "step");
        losses.extend(loss.map(|loss| (row.step, loss)));
    })?;
    Ok(losses)
}

/// The metrics measured during the training with the log at `path`.
pub(crate) fn followed(path: &Path) -> Result<BTreeSet<String>> {
    let mut followed = BTreeSet::new();
    for_each(path, |row: Row| followed.extend(row.row.map(|measured| measured.metric)))?;
    Ok(followed)
}

/// Passes every row of the log at `path` to `seen`, as a `T`.
pub(super) fn for_each<T: DeserializeOwned>(path: &Path, mut seen: impl FnMut(T)) -> Result<()> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    for line in std::io::BufReader::new(file).lines() {
        let line = line.map_err(Error::io("read", path))?;
        let row = serde_json::from_str::<T>(&line);
        seen(row.map_err(|source| Error::Record { path: path.to_owned(), source })?);
    }
    Ok(())
}

/// The log at `path` without what was measured during the training.
pub(crate) fn steps(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        let row = serde_json::from_str::<Row>(line);
        let row = row.map_err(|source| Error::Record { path: path.to_owned(), source })?;
        if row.row.is_none() {
            kept.push_str(line);
        }
    }
    Ok(kept)
}

/// An open log.
#[derive(Debug)]
pub(crate) struct StepLog<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
    pending: String,
    flushed: Instant,
}

impl<'a> StepLog<'a> {
    /// Creates an empty log at `path`, replacing an existing one.
    pub(crate) fn begin(disk: &'a dyn Disk, path: &Path) -> Result<Self> {
        disk.write(path, b"").map_err(Error::io("write", path))?;
        Ok(Self::at(disk, path, Sha256::new(), 0))
    }

    /// Opens the log at `path`, truncated to `mark`; `None` if its content does not match.
    pub(crate) fn resume(disk: &'a dyn Disk, path: &Path, mark: &Mark) -> Result<Option<Self>> {
        use std::io::Read;
        let Ok(file) = std::fs::File::open(path) else { return Ok(None) };
        let mut hash = Sha256::new();
        let mut rest = file.take(mark.bytes);
        let mut buffer = vec![0; MOST_PENDING];
        let mut read = 0;
        loop {
            let count = rest.read(&mut buffer).map_err(Error::io("read", path))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            read += count as u64;
        }
        if read != mark.bytes || hex::encode(hash.clone().finalize()) != mark.sha256 {
            return Ok(None);
        }
        disk.truncate(path, mark.bytes).map_err(Error::io("write", path))?;
        Ok(Some(Self::at(disk, path, hash, mark.bytes)))
    }

    fn at(disk: &'a dyn Disk, path: &Path, hash: Sha256, bytes: u64) -> Self {
        let (pending, flushed) = (String::new(), Instant::now());
        Self { disk, path: path.to_owned(), hash, bytes, pending, flushed }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: &Value) -> Result<()> {
        self.pending.push_str(&row.to_string());
        self.pending.push('\n');
        match self.pending.len() >= MOST_PENDING || self.flushed.elapsed() >= PATIENCE {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes all pending rows to the file.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            let bytes = self.pending.as_bytes();
            self.disk.append(&self.path, bytes).map_err(Error::io("write", &self.path))?;
            self.hash.update(bytes);
            self.bytes += bytes.len() as u64;
            self.pending.clear();
        }
        self.flushed = Instant::now();
        Ok(())
    }

    /// Syncs the log and returns its position.
    pub(crate) fn mark(&mut self) -> Result<Mark> {
        self.flush()?;
        self.disk.sync(&self.path).map_err(Error::io("write", &self.path))?;
        Ok(Mark { bytes: self.bytes, sha256: hex::encode(self.hash.clone().finalize()) })
    }
}

#[cfg(test)]
mod tests {
    use super::samples;

    /// Ten samples in batches of four: four, eight, ten, and again from the start.
    #[test]
    fn the_last_step_of_an_epoch_has_fewer_samples() {
        let seen: Vec<_> = (0..=5).map(|steps| samples(steps, 10, 4)).collect();
        assert_eq!(seen, [0, 4, 8, 10, 14, 18]);
        assert_eq!(samples(3, 0, 4), 0);
    }
}
