//! Runs of other experiments that serve this one: an equal digest means equal weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use vxf_report::{Generated, Record};

use super::prepared::Prepared;
use super::progress::Progress;
use crate::measure::stored_answers::GENERATIONS;
use crate::store::checkpoints::LOG;
use crate::store::finished::{self, RESULT, Run, TRAINING};
use crate::store::manifest::Manifest;
use crate::store::{Directory, files, step_log, weights};
use crate::{Error, Result};

/// Trained runs of other experiments, by digest; several experiments may have the same run.
#[derive(Debug, Default)]
pub(super) struct Others {
    runs: BTreeMap<String, Vec<Run>>,
    /// What cannot be read. It is passed over: it may have nothing to do with this experiment.
    unreadable: Vec<String>,
}

impl Others {
    /// The runs in the directories `places`: runs, experiments, or directories of them. Runs whose weights were
    /// removed are left out, because later stages may start from them.
    fn of(places: &[PathBuf]) -> Result<Self> {
        let mut others = Self::default();
        for place in places {
            let fail =
                |problem: &str| Error::NoRun { path: place.clone(), problem: problem.into() };
            if !place.is_dir() {
                let what = if place.exists() { "a file, and no run" } else { "no such directory" };
                return Err(fail(what));
            }
            let mut found = Run::places(place)?;
            if Run::is_single(place) {
                found.push(place.clone());
            }
            // An experiment may have begun and have no run yet.
            if found.is_empty() && !Run::is_run(place) {
                return Err(fail("a directory without a run"));
            }
            for place in found {
                match Run::open(&place) {
                    Ok(run) => others.add(run),
                    Err(error) => others.unreadable.push(error.to_string()),
                }
            }
        }
        Ok(others)
    }

    fn add(&mut self, run: Run) {
        let Record { trainable, digest, .. } = &run.record;
        let removed = run.record.has_weights() && !weights::path(trainable, &run.place).exists();
        if let Some(digest) = digest.clone().filter(|_| !removed) {
            let same = self.runs.entry(digest).or_default();
            if !same.iter().any(|known| known.place == run.place) {
                same.push(run);
            }
        }
    }
}

impl Prepared {
    /// Names experiments, or directories of them, whose trained runs serve this one where digests agree. They
    /// are copied when this experiment is begun or continued, and measured by the metrics that they lack.
    ///
    /// # Errors
    /// When a directory is missing or holds no run.
    pub fn reuse(&mut self, places: &[PathBuf]) -> Result<()> {
        self.others = Others::of(places)?;
        Ok(())
    }

    /// Copies those runs of other experiments that `directory` lacks. Damaged ones are passed over and reported.
    pub(super) fn take_over(&self, directory: &Directory, progress: &dyn Progress) -> Result<()> {
        let pass_over = |problem: &str| progress.note(&format!("warning: passed over: {problem}"));
        self.others.unreadable.iter().for_each(|problem| pass_over(problem));
        let (mut taken, mut warnings) = (0, BTreeSet::new());
        // Parents come before their children.
        for (index, spec) in self.graph.runs.iter().enumerate() {
            if directory.holds(&spec.id) || self.is_followed(index) {
                continue;
            }
            for run in self.candidates(index) {
                match Source::checked(run) {
                    Ok(source) => {
                        let record = self.record(index, run);
                        directory.write_run(&spec.id, |place| source.copy(record, place))?;
                        directory.checkpoints(&spec.id, "").clear()?;
                        warnings.extend(source.warning(&self.manifest));
                        taken += 1;
                        break;
                    }
                    Err(error) => pass_over(&error.to_string()),
                }
            }
        }
        if taken > 0 {
            let all = self.graph.runs.len();
            progress.note(&format!("{taken} of {all} runs are taken from other experiments"));
        }
        warnings.iter().for_each(|warning| progress.note(warning));
        Ok(())
    }

    /// The same run in other experiments; first the one that was measured by most of the metrics that are wanted.
    fn candidates(&self, index: usize) -> Vec<&Run> {
        let wanted = self.wanted(index);
        let measured = |run: &&Run| {
            let has = |(metric, digest): &(&String, &String)| {
                run.record.measured.get(*metric) == Some(*digest)
            };
            wanted.iter().filter(has).count()
        };
        let same = self.others.runs.get(&self.digests[index]);
        let mut all: Vec<&Run> = same.into_iter().flatten().collect();
        all.sort_by_key(|run| std::cmp::Reverse(measured(run)));
        all
    }

    /// The record of a run that is copied from `run`.
    fn record(&self, index: usize, run: &Run) -> Record {
        let spec = &self.graph.runs[index];
        let origin = run.record.taken_from.clone().unwrap_or_else(|| run.place.clone());
        Record {
            id: spec.id.clone(),
            parent: match spec.parent {
                Some(parent) => Some(self.graph.runs[parent].id.path()),
                None => self.source.clone(),
            },
            taken_from: Some(origin),
            followed: Vec::new(),
            // A failed metric counts as not measured, so that it is tried again if it is asked for.
            failed: BTreeMap::new(),
            ..run.record.clone()
        }
    }

    /// Whether metrics follow the training of a run. Its digest does not tell how often.
    fn is_followed(&self, run: usize) -> bool {
        self.graph.runs[run].stage.is_user() && self.recipe(run).settings.eval_every > 0
    }
}

/// A run to copy, whose weights and log can be read.
struct Source<'a> {
    run: &'a Run,
    /// Its log without what was followed during its training.
    log: String,
    /// The experiment that trained it, if that is still there.
    origin: Option<(PathBuf, Manifest)>,
}

impl<'a> Source<'a> {
    fn checked(run: &'a Run) -> Result<Self> {
        let Record { trainable, taken_from, .. } = &run.record;
        if run.record.has_weights() {
            weights::load(trainable, &run.place, DType::F32, &Device::Cpu)?;
        }
        let root = match taken_from {
            None => Some(run.root.clone()),
            Some(place) => Run::root_of(place).ok(),
        };
        let manifest = |root: PathBuf| finished::manifest(&root).map(|it| (root, it));
        let origin = root.map(manifest).transpose()?;
        Ok(Self { run, log: step_log::steps(&run.place.join(LOG))?, origin })
    }

    /// Says under which other conditions it was trained.
    fn warning(&self, here: &Manifest) -> Option<String> {
        let (root, manifest) = self.origin.as_ref()?;
        Some(format!("warning: {} {}", root.display(), manifest.differs(here)?))
    }

    /// Copies its files into the directory `to`, with another record. Answers that are not those of its record are left
    /// out, and its figures with them.
    fn copy(&self, mut record: Record, to: &Path) -> Result<()> {
        let from = &self.run.place;
        let copy = |from: &Path, to: &Path| -> Result<()> {
            fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
        };
        let log = to.join(LOG);
        fs::write(&log, &self.log).map_err(Error::io("write", &log))?;
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
        let answers = from.join(GENERATIONS);
        let intact = |made: &Generated| {
            vxf_access::file_digest(&answers).is_ok_and(|digest| digest == made.file)
        };
        let whole = self.run.is_measured() && record.answers.as_ref().is_some_and(intact);
        if whole {
            copy(&answers, &to.join(GENERATIONS))?;
        } else {
            record.answers = None;
            record.measurements.clear();
            record.measured.clear();
        }
        for name in [Some(TRAINING), whole.then_some(RESULT)].into_iter().flatten() {
            let path = to.join(name);
            fs::write(&path, files::pretty(&path, &record)?).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}
