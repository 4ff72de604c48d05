//! Saves disk space: removes the weights of finished runs and keeps their records.

use std::fs;
use std::path::Path;

use vxf_core::Trainable;
use vxf_recipe::settings::Retain;

use super::finished::Run;
use super::weights::{ADAPTER, WEIGHTS};
use crate::{Error, Result};

/// Removes weights of the run in `place` that are not to be kept; returns the bytes freed. Record, log
/// and answers stay, so the run still counts as done.
///
/// # Errors
/// When the run cannot be read or a file cannot be removed.
pub fn run(place: &Path, keep: Retain) -> Result<u64> {
    let record = super::finished::record(place)?;
    let path = match (keep, &record.trainable) {
        (Retain::Weights, _) | (Retain::Adapters, Trainable::Lora(_)) => return Ok(0),
        (_, Trainable::Lora(_)) => place.join(ADAPTER),
        (_, Trainable::Full) => place.join(WEIGHTS),
    };
    let bytes = size(&path);
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(&path),
        false if path.exists() => fs::remove_file(&path),
        false => return Ok(0),
    };
    removed.map_err(Error::io("remove", &path))?;
    Ok(bytes)
}

/// Prunes every run of the finished experiment in `root`.
///
/// # Errors
/// As [`run`], and when the experiment is not finished: remaining runs need its weights.
pub fn experiment(root: &Path, keep: Retain) -> Result<u64> {
    let manifest = super::finished::manifest(root)?;
    if manifest.finished.is_none() {
        let problem = "not finished: what is left to do starts from its weights".to_owned();
        return Err(Error::NoRun { path: root.to_owned(), problem });
    }
    let mut bytes = 0;
    for place in Run::places(root)? {
        bytes += run(&place, keep)?;
    }
    Ok(bytes)
}

fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| size(&entry.path()))
            .sum(),
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}
