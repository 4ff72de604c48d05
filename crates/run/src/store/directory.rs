//! The directory of an experiment: never overwritten, never half-written.
//!
//! A run appears when it is trained: weights, log and `training.json` are written into a temporary
//! directory, which is then renamed. When it is measured, `generations.jsonl` and then `result.json` are
//! added atomically; a later measurement replaces them. An unfinished run has checkpoints. The resolved
//! recipe identifies the experiment. File locks, released when their process ends, keep other processes
//! out: whoever writes the whole directory holds it alone, tasks share it, and each run has a lock of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use vxf_recipe::{Experiment, digest};
use vxf_report::{Answer, Record, RunId};

use super::checkpoints::{Checkpoints, Identity};
use super::disk::{self, Disk, FileSystem, PARTIAL};
use super::files::{pretty, read_json, read_lines};
use super::finished::{self, MANIFEST, RECIPE, RESULT};
use super::lock::{Hold, LOCK, lock};
use super::manifest::Manifest;
use super::same_experiment::same_experiment;
use crate::execute::control::Control;
use crate::execute::progress::Progress;
use crate::measure::stored_answers::GENERATIONS;
use crate::{Error, Result};
use vxf_recipe::settings::RUNS;

/// The locks of single runs, by digest; only tasks use them.
const LOCKS: &str = ".locks";
pub(super) const CHECKPOINTS: &str = "checkpoints";

/// An experiment's directory, locked by this process.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    disk: Box<dyn Disk>,
    recipe: String,
    _lock: File,
}

impl Directory {
    /// The default directory of an experiment.
    pub fn default_path(experiment: &Experiment, manifest: &Manifest) -> PathBuf {
        // Model and data belong to the experiment's identity: other content gets another directory.
        let recipe = experiment.recipe();
        let (model, data) = (&manifest.model, &manifest.data);
        let content = digest(&serde_json::json!([manifest.recipe, model, data]));
        // The name of the user's task; never a path, because the same files may be anywhere.
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

    /// Opens or creates the directory of an experiment. Waits while another process holds it, then checks
    /// it again, because the other process may have changed it.
    ///
    /// # Errors
    /// When it cannot be created or written, holds something else, or waiting is interrupted.
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
        let lock = lock(root, &root.join(LOCK), Hold::Alone, control, progress)?;
        fits()?;
        let recipe = experiment.toml();
        let directory = Self { root: root.to_owned(), disk, recipe, _lock: lock };
        directory.sweep()?;
        Ok(directory)
    }

    /// Opens the directory of an experiment that has begun, for tasks: other tasks may have it open too.
    /// Waits while a process holds it alone.
    ///
    /// # Errors
    /// When it has not begun, holds another experiment, or waiting is interrupted.
    pub(crate) fn share(
        root: &Path,
        experiment: &Experiment,
        manifest: &Manifest,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        same_experiment(root, experiment, manifest)?;
        let lock = lock(root, &root.join(LOCK), Hold::Shared, control, progress)?;
        same_experiment(root, experiment, manifest)?;
        let (disk, recipe) = (Box::new(FileSystem), experiment.toml());
        Ok(Self { root: root.to_owned(), disk, recipe, _lock: lock })
    }

    /// Locks one run for a task until the lock is dropped; waits while another task holds it.
    ///
    /// # Errors
    /// When the lock cannot be created, or waiting is interrupted.
    pub(crate) fn claim(
        &self,
        digest: &str,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<File> {
        let locks = self.root.join(LOCKS);
        self.disk.create_dir(&locks).map_err(Error::io("create", &locks))?;
        lock(&self.root, &locks.join(digest), Hold::Alone, control, progress)
    }

    /// Whether the experiment has started.
    pub fn has_begun(&self) -> bool {
        self.root.join(MANIFEST).exists()
    }

    /// Writes the resolved recipe, then the manifest.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn begin(&self, experiment: &Experiment, manifest: &Manifest) -> Result<()> {
        disk::replace(&*self.disk, &self.root.join(RECIPE), experiment.toml().as_bytes())?;
        self.write_manifest(manifest)
    }

    /// Whether `root` holds no experiment and no foreign files; a process that died early leaves no
    /// manifest.
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

    /// Removes partial files of a killed process, and the locks of tasks: none is running.
    fn sweep(&self) -> Result<()> {
        let locks = self.root.join(LOCKS);
        self.disk.remove(&locks).map_err(Error::io("remove", &locks))?;
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

    /// Reads the manifest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self) -> Result<Manifest> {
        finished::manifest(&self.root)
    }

    /// Replaces the manifest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let path = self.root.join(MANIFEST);
        let text = serde_json::to_string_pretty(manifest)
            .map_err(|source| Error::Record { path: path.clone(), source })?;
        disk::replace(&*self.disk, &path, (text + "\n").as_bytes())
    }

    /// The directory of a run.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.root.join(run.path())
    }

    /// Whether a run is trained.
    pub fn holds(&self, run: &RunId) -> bool {
        self.run(run).is_dir()
    }

    /// Whether a run was measured with all metrics and digests of `wanted`.
    pub(crate) fn has_measured(&self, run: &RunId, wanted: &BTreeMap<String, String>) -> bool {
        let path = self.run(run).join(RESULT);
        // An unreadable record is reported when the run is measured.
        let record = path.is_file().then(|| read_json::<Record>(&path).ok()).flatten();
        record.is_some_and(|record| {
            wanted.iter().all(|(metric, digest)| record.measured.get(metric) == Some(digest))
        })
    }

    /// Writes the results of measuring a run, replacing earlier ones.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_measured(&self, run: &RunId, answers: &str, record: &Record) -> Result<()> {
        let place = self.run(run);
        disk::replace(&*self.disk, &place.join(GENERATIONS), answers.as_bytes())?;
        let path = place.join(RESULT);
        disk::replace(&*self.disk, &path, pretty(&path, record)?.as_bytes())
    }

    /// Replaces the resolved recipe if it differs: it may ask for other measurements than before.
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

    /// Writes a run atomically: `fill` writes into a temporary directory, which is then renamed.
    ///
    /// # Errors
    /// When `fill` fails, or the run cannot be written.
    pub fn write_run(&self, run: &RunId, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // Locks keep other processes out of this run, and no two threads execute the same run.
        let name = run.path().to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
        let partial = self.root.join(format!("{PARTIAL}{name}"));
        disk::place(&*self.disk, &partial, &self.run(run), fill)
    }

    /// The checkpoints of a run; `digest` is what decides its weights.
    pub fn checkpoints(&self, run: &RunId, digest: &str) -> Checkpoints<'_> {
        let root = self.root.join(CHECKPOINTS).join(run.path());
        let identity = Identity { digest: digest.to_owned(), recipe: self.recipe.clone() };
        Checkpoints::new(&*self.disk, root, identity)
    }

    /// The file system used for this directory.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Removes partial files in existing runs, and the checkpoints of runs that are `done`.
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

    /// The records of those `runs` that exist.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn records<'a>(&self, runs: impl Iterator<Item = &'a RunId>) -> Result<Vec<Record>> {
        let runs = runs.filter(|run| self.holds(run));
        runs.map(|run| finished::record(&self.run(run))).collect()
    }

    /// The stored answers of a run; empty if there are none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn answers(&self, run: &RunId) -> Result<Vec<Answer>> {
        answers(&self.root, run)
    }
}

/// The stored answers of a run of the experiment in `root`; none if there are none.
pub(super) fn answers(root: &Path, run: &RunId) -> Result<Vec<Answer>> {
    let path = root.join(run.path()).join(GENERATIONS);
    if path.is_file() { read_lines(&path) } else { Ok(Vec::new()) }
}
