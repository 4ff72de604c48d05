//! Runs of other experiments that serve this one: an equal digest means equal weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vxf_report::Record;

use super::prepared::Prepared;
use super::progress::Progress;
use crate::measure::stored_answers::GENERATIONS;
use crate::plan::RunSpec;
use crate::store::checkpoints::LOG;
use crate::store::finished::{self, RESULT, Run, TRAINING};
use crate::store::{Directory, files, weights};
use crate::{Error, Result};

/// Trained runs of other experiments, by digest.
#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<String, Run>);

impl Others {
    /// The runs in the directories `places`: experiments, or directories of them. Runs whose weights were
    /// removed are left out, because later stages may start from them.
    fn of(places: &[PathBuf]) -> Result<Self> {
        let mut all = BTreeMap::new();
        for place in places {
            let fail =
                |problem: &str| Error::NoRun { path: place.clone(), problem: problem.into() };
            if !place.is_dir() {
                return Err(fail("no such directory"));
            }
            let found = Run::places(place)?;
            if found.is_empty() {
                return Err(fail("a directory without a run"));
            }
            for place in found {
                let run = Run::open(&place)?;
                let record = &run.record;
                let has_weights = || weights::path(&record.trainable, &place).exists();
                if record.has_weights() && !has_weights() {
                    continue;
                }
                if let Some(digest) = record.digest.clone() {
                    all.entry(digest).or_insert(run);
                }
            }
        }
        Ok(Self(all))
    }
}

impl Prepared {
    /// Names experiments, or directories of them, whose trained runs serve this one where digests agree. They
    /// are copied when this experiment is begun or continued, and measured by the metrics that they lack.
    ///
    /// # Errors
    /// When there is no run, or a record cannot be read.
    pub fn reuse(&mut self, places: &[PathBuf]) -> Result<()> {
        self.others = Others::of(places)?;
        Ok(())
    }

    /// Copies those runs of other experiments that `directory` lacks.
    pub(super) fn take_over(&self, directory: &Directory, progress: &dyn Progress) -> Result<()> {
        if self.others.0.is_empty() {
            return Ok(());
        }
        let (mut taken, mut conditions) = (0, BTreeMap::new());
        // Parents come before their children.
        for (index, spec) in self.graph.runs.iter().enumerate() {
            let Some(other) = self.others.0.get(&self.digests[index]) else { continue };
            if directory.holds(&spec.id) || self.is_followed(index) {
                continue;
            }
            let record = Record {
                id: spec.id.clone(),
                parent: match spec.parent {
                    Some(parent) => Some(self.graph.runs[parent].id.path()),
                    None => self.source.clone(),
                },
                taken_from: Some(other.place.clone()),
                ..other.record.clone()
            };
            directory.write_run(&spec.id, |place| copy(other, &record, place))?;
            directory.checkpoints(&spec.id, "").clear()?;
            taken += 1;
            if !conditions.contains_key(&other.root) {
                let there = finished::manifest(&other.root)?;
                conditions.insert(other.root.clone(), there.differs(&self.manifest));
            }
        }
        progress.note(&format!(
            "{taken} of {} runs are taken from other experiments",
            self.graph.runs.len()
        ));
        for (root, warning) in conditions {
            if let Some(warning) = warning {
                progress.note(&format!("warning: {} {warning}", root.display()));
            }
        }
        Ok(())
    }

    /// Whether metrics follow the training of a run. Its digest does not tell how often.
    fn is_followed(&self, run: usize) -> bool {
        let RunSpec { stage, .. } = &self.graph.runs[run];
        stage.is_user() && self.recipe(run).settings.eval_every > 0
    }
}

/// Copies the files of `run` into the directory `to`, with another record.
fn copy(run: &Run, record: &Record, to: &Path) -> Result<()> {
    let from = &run.place;
    let copy = |from: &Path, to: &Path| -> Result<()> {
        fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
    };
    for name in [LOG, GENERATIONS] {
        if from.join(name).is_file() {
            copy(&from.join(name), &to.join(name))?;
        }
    }
    if record.has_weights() {
        let trainable = &record.trainable;
        let (from, to) = (weights::path(trainable, from), weights::path(trainable, to));
        match from.is_dir() {
            false => copy(&from, &to)?,
            true => {
                fs::create_dir(&to).map_err(Error::io("create", &to))?;
                for entry in fs::read_dir(&from).map_err(Error::io("read", &from))? {
                    let entry = entry.map_err(Error::io("read", &from))?;
                    copy(&entry.path(), &to.join(entry.file_name()))?;
                }
            }
        }
    }
    let measured = run.is_measured().then_some(RESULT);
    for name in [TRAINING].into_iter().chain(measured) {
        let path = to.join(name);
        fs::write(&path, files::pretty(&path, record)?).map_err(Error::io("write", &path))?;
    }
    Ok(())
}
