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

use serde_json::{Value, json};

use crate::checkpoints::{Checkpoints, Identity};
use crate::control::Control;
use crate::data_settings::Part;
use crate::diff::{self, Difference};
use crate::disk::{self, Disk, FileSystem, PARTIAL};
use crate::finished::RESULT;
use crate::manifest::Manifest;
use crate::plan::{CellId, Plan};
use crate::progress::Progress;
use crate::recipe::{Data, Recipe};
use crate::record::{Answer, Record, pretty, read_json, read_lines};
use crate::stored_answers::GENERATIONS;
use crate::{Error, Result, finished};

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
    identity: Identity,
    _lock: File,
}

/// The directory for experiments that are not given one.
pub(crate) const RUNS: &str = "runs";

impl Directory {
    /// Where an experiment goes unless told otherwise.
    pub fn default_path(recipe: &Recipe, manifest: &Manifest) -> PathBuf {
        // The model and the data are part of what an experiment is: other content, other directory.
        let Manifest { model, data, source, .. } = manifest;
        let digest = crate::recipe::digest(&json!([manifest.recipe, model, data, source]));
        let name = format!("{}-{}-{}", recipe.label(), task(recipe, manifest), &digest[..8]);
        Path::new(RUNS).join(name)
    }

    /// Opens the directory for `recipe`, making it if it is not there. While another process holds
    /// it this waits, and then looks at it again: the other may have changed everything.
    ///
    /// # Errors
    /// When it cannot be made or written, holds something else, or the wait is broken off.
    pub fn open(
        root: &Path,
        recipe: &Recipe,
        manifest: &Manifest,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let fits = || match root.exists() && !Self::is_free(root)? {
            true => same_experiment(root, recipe, manifest),
            false => Ok(()),
        };
        fits()?;
        let disk = Box::new(FileSystem);
        disk.create_dir(root).map_err(Error::io("create", root))?;
        let lock = lock(root, control, progress)?;
        fits()?;
        let identity = Identity { digest: manifest.recipe.clone(), recipe: recipe.toml() };
        let directory = Self { root: root.to_owned(), disk, identity, _lock: lock };
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
    pub fn begin(&self, recipe: &Recipe, manifest: &Manifest) -> Result<()> {
        disk::replace(&*self.disk, &self.root.join(RECIPE), recipe.toml().as_bytes())?;
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

    /// Where a cell lies.
    pub fn cell(&self, cell: &CellId) -> PathBuf {
        self.root.join(cell.path())
    }

    /// Whether a cell is there: trained, and perhaps measured.
    pub fn holds(&self, cell: &CellId) -> bool {
        self.cell(cell).is_dir()
    }

    /// Whether a cell was measured by the metrics and digests in `wanted`.
    pub(crate) fn has_measured(&self, cell: &CellId, wanted: &BTreeMap<String, String>) -> bool {
        let path = self.cell(cell).join(RESULT);
        // A record that cannot be read is reported by whoever measures the cell.
        let record = path.is_file().then(|| read_json::<Record>(&path).ok()).flatten();
        record.is_some_and(|record| {
            wanted.iter().all(|(metric, digest)| record.measured.get(metric) == Some(digest))
        })
    }

    /// Puts what was measured of a cell in the place of what was measured before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_measured(
        &self,
        cell: &CellId,
        answers: &str,
        record: &Record,
    ) -> Result<()> {
        let place = self.cell(cell);
        disk::replace(&*self.disk, &place.join(GENERATIONS), answers.as_bytes())?;
        let path = place.join(RESULT);
        disk::replace(&*self.disk, &path, pretty(&path, record)?.as_bytes())
    }

    /// Puts `recipe` in the place of the one that is written down, if it says anything else: it may
    /// ask for other measurements than the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_recipe(&self, recipe: &Recipe) -> Result<()> {
        let (path, text) = (self.root.join(RECIPE), recipe.toml());
        match fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            true => Ok(()),
            false => disk::replace(&*self.disk, &path, text.as_bytes()),
        }
    }

    /// Writes a cell: `fill` writes into a directory that becomes the cell's when it is complete.
    ///
    /// # Errors
    /// When `fill` fails, or the cell cannot be put in place.
    pub fn write_cell(&self, cell: &CellId, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // The lock keeps other processes out, and no two threads compute one cell.
        let name = cell.path().to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
        let partial = self.root.join(format!("{PARTIAL}{name}"));
        disk::place(&*self.disk, &partial, &self.cell(cell), fill)
    }

    /// The checkpoints of a cell that is under way.
    pub fn checkpoints(&self, cell: &CellId) -> Checkpoints<'_> {
        let root = self.root.join(CHECKPOINTS).join(cell.path());
        Checkpoints::new(&*self.disk, root, &self.identity)
    }

    /// How this directory is written.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Removes what a killed process left half-written in a cell, and the checkpoints of cells that
    /// are `done`.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(crate) fn tidy(&self, plan: &Plan, done: impl Fn(&CellId) -> bool) -> Result<()> {
        let cells = plan.cells();
        for cell in cells.iter().filter(|cell| self.holds(cell)) {
            for name in [GENERATIONS, RESULT] {
                let partial = disk::beside(&self.cell(cell).join(name));
                self.disk.remove(&partial).map_err(Error::io("remove", partial))?;
            }
        }
        let (done, left): (Vec<_>, Vec<_>) = cells.into_iter().partition(done);
        if left.is_empty() {
            let all = self.root.join(CHECKPOINTS);
            return self.disk.remove(&all).map_err(Error::io("remove", all));
        }
        done.iter().try_for_each(|cell| self.checkpoints(cell).clear())
    }

    /// The records of all cells of `plan` that are there.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn records(&self, plan: &Plan) -> Result<Vec<Record>> {
        let cells = plan.cells().into_iter().filter(|cell| self.holds(cell));
        cells.map(|cell| finished::record(&self.cell(&cell))).collect()
    }

    /// The answers kept in a cell.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn answers(&self, cell: &CellId) -> Result<Vec<Answer>> {
        read_lines(&self.cell(cell).join(GENERATIONS))
    }
}

/// What the user's task is called in the name of a directory: never by a path.
fn task(recipe: &Recipe, manifest: &Manifest) -> String {
    let report = match &recipe.data {
        Data::World(world) => return world.task.to_string(),
        Data::Files(_) => manifest.report.as_ref(),
    };
    let user = report.and_then(|it| it.sets.iter().find(|set| set.name == Part::User.key()));
    let schema = user.and_then(|set| set.schema);
    schema.map_or("data".to_owned(), |schema| schema.name().to_owned())
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

/// Checks that the experiment in `root` is the one of `recipe`.
fn same_experiment(root: &Path, recipe: &Recipe, manifest: &Manifest) -> Result<()> {
    let other = |difference: String| Error::OtherExperiment { path: root.to_owned(), difference };
    let there = finished::recipe(root);
    let there = there.map_err(|error| other(format!("its recipe cannot be read ({error})")))?;
    let (there, here) = (Value::Object(there.essence()), Value::Object(recipe.essence()));
    let show = Difference::show;
    let mut differences: Vec<_> = diff::differences(&there, &here)
        .into_iter()
        .map(|Difference { key, first, second }| {
            format!("{key} is {} there, {} here", show(first.as_ref()), show(second.as_ref()))
        })
        .collect();
    let before: Manifest = read_json(&root.join(MANIFEST))?;
    if differences.is_empty() && before.model != manifest.model {
        differences.push("the model's files have changed".into());
    }
    if differences.is_empty() && before.source != manifest.source {
        differences.push("the aligned run that it starts from is another".into());
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
