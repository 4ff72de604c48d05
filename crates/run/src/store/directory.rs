//! The directory of an experiment: never overwritten, never half-written.
//!
//! A run is put in place whole when it is trained: weights, log and `training.json` are written beside
//! its place and renamed, so a run that is there is trained. When it is measured, `generations.jsonl`
//! and then `result.json` are put beside them, each in one step; a later measurement replaces them.
//! A run that is under way has checkpoints. The resolved recipe says which experiment it is; a lock
//! that vanishes with its holder keeps two processes apart.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use vxf_recipe::diff::{self, Difference};
use vxf_recipe::{Experiment, digest};
use vxf_report::{Answer, Record, RunId};

use super::checkpoints::{Checkpoints, Identity};
use super::disk::{self, Disk, FileSystem, PARTIAL};
use super::files::{pretty, read_json, read_lines};
use super::finished::{self, RESULT};
use super::manifest::Manifest;
use crate::execute::control::Control;
use crate::execute::progress::Progress;
use crate::measure::stored_answers::GENERATIONS;
use crate::{Error, Result};

/// Where experiments go when nobody says where.
pub(crate) const RUNS: &str = "runs";
const RECIPE: &str = "config.resolved.toml";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
const CHECKPOINTS: &str = "checkpoints";
/// How often a directory that another process holds is tried.
const PATIENCE: Duration = Duration::from_millis(50);

/// An experiment's directory, held by this process alone.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    disk: Box<dyn Disk>,
    recipe: String,
    _lock: File,
}

impl Directory {
    /// Where an experiment goes unless told otherwise.
    pub fn default_path(experiment: &Experiment, manifest: &Manifest) -> PathBuf {
        // The model and the data are part of what an experiment is: other content, other directory.
        let recipe = experiment.recipe();
        let (model, data) = (&manifest.model, &manifest.data);
        let content = digest(&serde_json::json!([manifest.recipe, model, data]));
        // What the user's task is called: never by a path, as the same files may lie anywhere.
        let task = match &manifest.report {
            Some(report) => {
                let user = report.sets.iter().find(|set| set.name == vxf_data::Part::User.key());
                user.and_then(|set| set.schema).map_or("data", |schema| schema.name()).to_owned()
            }
            None => recipe.data.config.task(),
        };
        let name = format!("{}-{task}-{}", recipe.label(), &content[..8]);
        Path::new(RUNS).join(name)
    }

    /// Opens the directory for `recipe`, making it if it is not there. While another process holds
    /// it this waits, and then looks at it again: the other may have changed everything.
    ///
    /// # Errors
    /// When it cannot be made or written, holds something else, or the wait is broken off.
    pub fn open(
        root: &Path,
        experiment: &Experiment,
        manifest: &Manifest,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let fits = || match root.exists() && !Self::is_free(root)? {
            true => same_experiment(root, experiment, manifest),
            false => Ok(()),
        };
        fits()?;
        let disk = Box::new(FileSystem);
        disk.create_dir(root).map_err(Error::io("create", root))?;
        let lock = lock(root, control, progress)?;
        fits()?;
        let recipe = experiment.toml();
        let directory = Self { root: root.to_owned(), disk, recipe, _lock: lock };
        directory.sweep()?;
        Ok(directory)
    }

    /// Whether an experiment has begun in it.
    pub fn has_begun(&self) -> bool {
        self.root.join(MANIFEST).exists()
    }

    /// Writes down which experiment it is, the manifest last.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn begin(&self, experiment: &Experiment, manifest: &Manifest) -> Result<()> {
        disk::replace(&*self.disk, &self.root.join(RECIPE), experiment.toml().as_bytes())?;
        self.write_manifest(manifest)
    }

    /// Whether nothing of anyone's is in `root`: a first call that died early leaves no manifest.
    fn is_free(root: &Path) -> Result<bool> {
        if root.join(MANIFEST).exists() {
            return Ok(false);
        }
        for entry in fs::read_dir(root).map_err(Error::io("read", root))? {
            let name = entry.map_err(Error::io("read", root))?.file_name();
            let name = name.to_string_lossy();
            if name != LOCK && name != RECIPE && !name.starts_with(PARTIAL) {
                return Err(Error::NotAnExperiment { path: root.to_owned() });
            }
        }
        Ok(true)
    }

    /// Removes what a killed process left half-written.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root).map_err(Error::io("read", &self.root))? {
            let path = entry.map_err(Error::io("read", &self.root))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(PARTIAL) {
                self.disk.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The manifest as it is on disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self) -> Result<Manifest> {
        read_json(&self.root.join(MANIFEST))
    }

    /// Puts `manifest` in the place of the one on disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let path = self.root.join(MANIFEST);
        let text = serde_json::to_string_pretty(manifest)
            .map_err(|source| Error::Record { path: path.clone(), source })?;
        disk::replace(&*self.disk, &path, (text + "\n").as_bytes())
    }

    /// Where a run lies.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.root.join(run.path())
    }

    /// Whether a run is there: trained, and perhaps measured.
    pub fn holds(&self, run: &RunId) -> bool {
        self.run(run).is_dir()
    }

    /// Whether a run was measured by the metrics and digests in `wanted`.
    pub(crate) fn has_measured(&self, run: &RunId, wanted: &BTreeMap<String, String>) -> bool {
        let path = self.run(run).join(RESULT);
        // A record that cannot be read is reported by whoever measures the run.
        let record = path.is_file().then(|| read_json::<Record>(&path).ok()).flatten();
        record.is_some_and(|record| {
            wanted.iter().all(|(metric, digest)| record.measured.get(metric) == Some(digest))
        })
    }

    /// Puts what was measured of a run in the place of what was measured before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_measured(&self, run: &RunId, answers: &str, record: &Record) -> Result<()> {
        let place = self.run(run);
        disk::replace(&*self.disk, &place.join(GENERATIONS), answers.as_bytes())?;
        let path = place.join(RESULT);
        disk::replace(&*self.disk, &path, pretty(&path, record)?.as_bytes())
    }

    /// Puts `recipe` in the place of the one that is written down, if it says anything else: it may
    /// ask for other measurements than the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_recipe(&self, experiment: &Experiment) -> Result<()> {
        let (path, text) = (self.root.join(RECIPE), experiment.toml());
        match fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            true => Ok(()),
            false => disk::replace(&*self.disk, &path, text.as_bytes()),
        }
    }

    /// Writes a run: `fill` writes into a directory that becomes the run's when it is complete.
    ///
    /// # Errors
    /// When `fill` fails, or the run cannot be put in place.
    pub fn write_run(&self, run: &RunId, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // The lock keeps other processes out, and no two threads carry out one run.
        let name = run.path().to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
        let partial = self.root.join(format!("{PARTIAL}{name}"));
        disk::place(&*self.disk, &partial, &self.run(run), fill)
    }

    /// The checkpoints of a run that is under way; `digest` is what decides its weights.
    pub fn checkpoints(&self, run: &RunId, digest: &str) -> Checkpoints<'_> {
        let root = self.root.join(CHECKPOINTS).join(run.path());
        let identity = Identity { digest: digest.to_owned(), recipe: self.recipe.clone() };
        Checkpoints::new(&*self.disk, root, identity)
    }

    /// How this directory is written.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Removes what a killed process left half-written in the runs that are there, and the checkpoints
    /// of those that are `done`.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(crate) fn tidy(&self, runs: &[&RunId], done: impl Fn(&RunId) -> bool) -> Result<()> {
        for run in runs.iter().filter(|run| self.holds(run)) {
            for name in [GENERATIONS, RESULT] {
                let partial = disk::beside(&self.run(run).join(name));
                self.disk.remove(&partial).map_err(Error::io("remove", partial))?;
            }
        }
        let (done, left): (Vec<&RunId>, Vec<&RunId>) = runs.iter().partition(|run| done(run));
        if left.is_empty() {
            let all = self.root.join(CHECKPOINTS);
            return self.disk.remove(&all).map_err(Error::io("remove", all));
        }
        done.iter().try_for_each(|run| self.checkpoints(run, "").clear())
    }

    /// The records of those of `runs` that are there.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn records<'a>(&self, runs: impl Iterator<Item = &'a RunId>) -> Result<Vec<Record>> {
        let runs = runs.filter(|run| self.holds(run));
        runs.map(|run| finished::record(&self.run(run))).collect()
    }

    /// The answers kept in a run; none if it is not there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn answers(&self, run: &RunId) -> Result<Vec<Answer>> {
        let path = self.run(run).join(GENERATIONS);
        if path.is_file() { read_lines(&path) } else { Ok(Vec::new()) }
    }
}

/// Holds `root` until this process ends; waits for another that does.
fn lock(root: &Path, control: Control<'_>, progress: &dyn Progress) -> Result<File> {
    let path = root.join(LOCK);
    let lock = File::create(&path).map_err(Error::io("write", &path))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(source)) => return Err(Error::io("write", path)(source)),
            Err(TryLockError::WouldBlock) if control.stops() => {
                return Err(Error::Interrupted { path: root.to_owned() });
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if !std::mem::replace(&mut told, true) {
            let root = root.display();
            progress.note(&format!("another vxf is writing {root}; waiting for it to end"));
        }
        std::thread::sleep(PATIENCE);
    }
}

/// Checks that the experiment in `root` is the one here: the same settings, the same model and the same
/// data. Where files lie is of no account.
fn same_experiment(root: &Path, experiment: &Experiment, manifest: &Manifest) -> Result<()> {
    let other = |difference: String| Error::OtherExperiment { path: root.to_owned(), difference };
    let before: Manifest = read_json(&root.join(MANIFEST))?;
    let there = finished::experiment(root);
    let there = there.map_err(|error| other(format!("its recipe cannot be read ({error})")))?;
    if before.schema_version < manifest.schema_version && before.finished.is_none() {
        return Err(other(format!(
            "it was begun by {} in version {} of this layout, and this program goes on with version \
             {} alone; finish it there, or start anew elsewhere",
            before.program, before.schema_version, manifest.schema_version
        )));
    }
    let same_content = before.model == manifest.model
        && before.data == manifest.data
        && before.source == manifest.source;
    let tree = |experiment: &Experiment| match same_content {
        true => Value::Object(experiment.essence_by_content()),
        false => Value::Object(experiment.essence()),
    };
    let show = Difference::show;
    let mut differences: Vec<_> = diff::differences(&tree(&there), &tree(experiment))
        .into_iter()
        .map(|Difference { key, first, second }| {
            format!("{key} is {} there, {} here", show(first.as_ref()), show(second.as_ref()))
        })
        .collect();
    if differences.is_empty() && before.model != manifest.model {
        differences.push("the model's files have changed".into());
    }
    if differences.is_empty() && before.source != manifest.source {
        differences.push("the run that it starts from has changed".into());
    }
    if differences.is_empty() && before.data != manifest.data {
        differences.push("the data has changed".into());
    }
    if differences.is_empty() {
        return Ok(());
    }
    let rest = differences.len().saturating_sub(3);
    differences.truncate(3);
    let rest = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    Err(other(differences.join("; ") + &rest))
}
