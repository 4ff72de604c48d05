//! The checkpoints of an unfinished stage.
//!
//! ```text
//! checkpoints/<run>/
//!   metrics.jsonl          the log so far; a checkpoint has the length and digest of its part
//!   answers.jsonl          answers generated so far, after training
//!   step-0000000200/       a checkpoint: adapters or weights and states, without the base
//!     weights.safetensors  and one file for each other group of tensors
//!     recipe.toml          the resolved recipe
//!     state.json           the position of the training, and the digest of the run
//!     manifest.json        length and SHA-256 of each of these files, written last
//! ```
//!
//! A checkpoint is written under a temporary name, every file is synced, then it is renamed. So an
//! existing checkpoint is complete unless the disk damaged it, which the digests show. The last two are
//! kept; an older one is removed only after the newest has been read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vxf_core::Params;
use vxf_core::resume::{GROUPS, Position, Saved};

use super::disk::{self, Disk, PARTIAL};
use super::step_log::{Mark, StepLog};
use crate::{Error, Result};

/// Number of checkpoints kept for a stage.
const KEPT: usize = 2;
/// Checkpoints are in `<experiment>/checkpoints/<label>/<ratio>/<seed>`, or deeper with further axes.
const DEPTH: usize = 8;
/// Schema version.
const SCHEMA_VERSION: u32 = 1;
/// Size limit of `manifest.json` and `state.json`.
const LONGEST_JSON: u64 = 1 << 26;

const PREFIX: &str = "step-";
const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const RECIPE: &str = "recipe.toml";
pub(crate) const LOG: &str = "metrics.jsonl";
pub(crate) const ANSWERS: &str = "answers.jsonl";

/// Identifies the run that a checkpoint belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// SHA-256 of everything that its results depend on.
    pub digest: String,
    /// The resolved recipe.
    pub recipe: String,
}

/// The checkpoints of one stage.
#[derive(Debug)]
pub struct Checkpoints<'a> {
    disk: &'a dyn Disk,
    root: PathBuf,
    identity: Identity,
}

/// The content of `state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    recipe: String,
    position: Position,
    log: Mark,
    seconds: f64,
}

/// The content of a checkpoint's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    schema_version: u32,
    files: BTreeMap<String, Stamp>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    bytes: u64,
    sha256: String,
}

impl Stamp {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
    }
}

/// A loaded checkpoint.
#[derive(Debug)]
pub(crate) struct Resumed<'a> {
    /// The state of the training.
    pub(crate) saved: Saved,
    /// The log up to the checkpoint.
    pub(crate) log: StepLog<'a>,
    /// Seconds spent up to the checkpoint.
    pub(crate) seconds: f64,
}

impl<'a> Checkpoints<'a> {
    /// The checkpoints in `root` of the run `identity`.
    pub fn new(disk: &'a dyn Disk, root: PathBuf, identity: Identity) -> Self {
        Self { disk, root, identity }
    }

    /// Their directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The next step of the newest checkpoint; 0 without any. Verifies nothing.
    pub fn last(&self) -> u64 {
        self.steps().last().copied().unwrap_or(0)
    }

    /// Reads the checkpoint before `step` and verifies every file; changes nothing on disk.
    ///
    /// # Errors
    /// Names the checkpoint, the invalid file and the problem.
    pub fn read(&self, step: u64) -> Result<Saved, String> {
        let place = self.place(step);
        let parts = self.parts(&place);
        parts.map(|(saved, _)| saved).map_err(|problem| format!("{}: {problem}", place.display()))
    }

    /// Starts a new log and replaces an existing one.
    pub(crate) fn begin_log(&self) -> Result<StepLog<'a>> {
        self.disk.create_dir(&self.root).map_err(Error::io("create", &self.root))?;
        // Sync the new directories as well, up to the experiment's own.
        let new = self.root.ancestors().take(DEPTH).filter(|path| path.is_dir());
        for directory in new {
            self.disk.sync(directory).map_err(Error::io("write", directory))?;
        }
        StepLog::begin(self.disk, &self.root.join(LOG))
    }

    /// Loads the newest intact checkpoint, if any. Removes partial files, and damaged checkpoints with a
    /// note.
    pub(crate) fn resume(&self, note: &dyn Fn(&str)) -> Result<Option<Resumed<'a>>> {
        self.sweep()?;
        for step in self.steps().into_iter().rev() {
            let place = self.place(step);
            let problem = match self.parts(&place) {
                Ok((saved, state)) if saved.position.next == step => {
                    let log = self.root.join(LOG);
                    match StepLog::resume(self.disk, &log, &state.log)? {
                        Some(log) => {
                            return Ok(Some(Resumed { saved, log, seconds: state.seconds }));
                        }
                        None => format!("{} does not match the checkpoint", log.display()),
                    }
                }
                Ok((saved, _)) => format!("it was saved before step {}", saved.position.next),
                Err(problem) => problem,
            };
            note(&format!(
                "the checkpoint {} cannot be used ({problem}); using the one before",
                place.display()
            ));
            self.disk.remove(&place).map_err(Error::io("remove", &place))?;
        }
        Ok(None)
    }

    /// Saves the training, then removes all but the last two checkpoints.
    pub(crate) fn save(&self, saved: &Saved, log: Mark, seconds: f64) -> Result<()> {
        let place = self.place(saved.position.next);
        let write = |path: PathBuf, bytes: &[u8]| {
            self.disk.write(&path, bytes).map_err(Error::io("write", path))
        };
        // If one exists for this step, it was unusable; otherwise training would have resumed after it.
        self.disk.remove(&place).map_err(Error::io("remove", &place))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let partial = self.root.join(format!("{PARTIAL}{name}"));
        disk::place(self.disk, &partial, &place, |to| {
            let mut files = BTreeMap::new();
            let mut put = |name: String, bytes: &[u8]| {
                write(to.join(&name), bytes)?;
                files.insert(name, Stamp::of(bytes));
                Ok::<_, Error>(())
            };
            for (group, tensors) in &saved.tensors {
                let bytes = safetensors::serialize(tensors.iter(), None);
                let bytes = bytes.map_err(|error| Error::from(candle_core::Error::from(error)))?;
                put(format!("{group}.safetensors"), &bytes)?;
            }
            put(RECIPE.to_owned(), self.identity.recipe.as_bytes())?;
            let state = State {
                recipe: self.identity.digest.clone(),
                position: saved.position.clone(),
                log,
                seconds,
            };
            put(STATE.to_owned(), &json(to, &state)?)?;
            let listing = Listing { schema_version: SCHEMA_VERSION, files };
            write(to.join(MANIFEST), &json(to, &listing)?)
        })?;
        self.check(&place).map_err(|problem| Error::Checkpoint { path: place.clone(), problem })?;
        let steps = self.steps();
        for step in &steps[..steps.len().saturating_sub(KEPT)] {
            let old = self.place(*step);
            self.disk.remove(&old).map_err(Error::io("remove", &old))?;
        }
        Ok(())
    }

    /// Removes all checkpoints, when the stage is done.
    pub(crate) fn clear(&self) -> Result<()> {
        self.disk.remove(&self.root).map_err(Error::io("remove", &self.root))
    }

    fn place(&self, step: u64) -> PathBuf {
        self.root.join(format!("{PREFIX}{step:010}"))
    }

    /// The steps of all checkpoints, in order.
    fn steps(&self) -> Vec<u64> {
        let names = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let step =
            |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok();
        let mut steps: Vec<u64> = names.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Removes partial files of a process that ended.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                let path = entry.path();
                self.disk.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Reads a whole checkpoint; every file is verified before it is used.
    fn parts(&self, place: &Path) -> Result<(Saved, State), String> {
        let listing = listing(place)?;
        let state = checked(place, STATE, &listing)?;
        let state: State =
            serde_json::from_slice(&state).map_err(|error| format!("{STATE}: {error}"))?;
        if state.recipe != self.identity.digest {
            return Err("it belongs to another run, or to another version of the arithmetic".into());
        }
        let mut tensors = BTreeMap::new();
        for name in listing.files.keys() {
            let bytes = checked(place, name, &listing)?;
            let Some(group) = name.strip_suffix(".safetensors") else { continue };
            if !GROUPS.contains(&group) {
                return Err(format!("{name} is not a file of a checkpoint"));
            }
            tensors.insert(group.to_owned(), params(&bytes).map_err(|e| format!("{name}: {e}"))?);
        }
        Ok((Saved { tensors, position: state.position.clone() }, state))
    }

    /// Verifies every file of a checkpoint against its list.
    fn check(&self, place: &Path) -> Result<(), String> {
        let listing = listing(place)?;
        listing.files.keys().try_for_each(|name| checked(place, name, &listing).map(drop))
    }
}

/// Reads a checkpoint's list of files; all must be in its own directory.
fn listing(place: &Path) -> Result<Listing, String> {
    let bytes = read(&place.join(MANIFEST), LONGEST_JSON)?;
    let listing: Listing =
        serde_json::from_slice(&bytes).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if listing.schema_version != SCHEMA_VERSION {
        let found = listing.schema_version;
        return Err(format!("{MANIFEST}: layout {found}, and this program reads {SCHEMA_VERSION}"));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
    let foreign = |name: &&String| name.is_empty() || name.starts_with('.') || name.contains(odd);
    match listing.files.keys().find(foreign) {
        Some(name) => Err(format!("{MANIFEST}: {name:?} is not a file name")),
        None => Ok(listing),
    }
}

/// Reads a file of a checkpoint and verifies it against the list.
fn checked(place: &Path, name: &str, listing: &Listing) -> Result<Vec<u8>, String> {
    let missing = || format!("{MANIFEST} does not list {name}");
    let stamp = listing.files.get(name).ok_or_else(missing)?;
    let bytes = read(&place.join(name), stamp.bytes)?;
    match Stamp::of(&bytes) == *stamp {
        true => Ok(bytes),
        false => Err(format!("{name} differs from what was written")),
    }
}

/// Reads a regular file of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fail = |error: std::io::Error| format!("{name}: {error}");
    let found = fs::symlink_metadata(path).map_err(fail)?;
    if !found.is_file() || found.len() > most {
        return Err(format!("{name} is not a file of at most {most} bytes"));
    }
    fs::read(path).map_err(fail)
}

fn params(bytes: &[u8]) -> candle_core::Result<Params> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
    Ok(tensors.into_iter().collect::<Vec<(String, Tensor)>>().into_iter().collect())
}

fn json(place: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let record = |source| Error::Record { path: place.to_owned(), source };
    Ok((serde_json::to_string_pretty(value).map_err(record)? + "\n").into_bytes())
}

#[cfg(test)]
mod tests;
