//! The directory of an experiment: never overwritten, never half-written.
//!
//! A cell is written beside its place and renamed when it is complete, so a cell that is there is
//! whole. The resolved recipe says which experiment it is; a lock keeps two processes apart.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::diff::{self, Difference};
use crate::manifest::Manifest;
use crate::plan::{CellId, Plan};
use crate::recipe::Recipe;
use crate::record::{Answer, Record, read_json, read_lines};
use crate::{Error, Result, recipe_file, resolve};

const RECIPE: &str = "config.resolved.toml";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
const PARTIAL: &str = ".partial-";

/// An experiment's directory, held by this process alone.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    _lock: File,
}

impl Directory {
    /// Where an experiment goes unless told otherwise.
    pub fn default_path(recipe: &Recipe, manifest: &Manifest) -> PathBuf {
        // The model is part of what an experiment is: other weights, other directory.
        let mark = Value::from(vec![manifest.recipe.clone(), manifest.model.weights.clone()]);
        let digest = crate::recipe::digest(&mark);
        let name = format!("{}-{}-{}", recipe.label(), recipe.data.task(), &digest[..8]);
        Path::new("runs").join(name)
    }

    /// Opens the directory for `recipe`, making it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or written, holds something else, or is being written.
    pub fn open(root: &Path, recipe: &Recipe, manifest: &Manifest) -> Result<Self> {
        let existing = root.exists();
        if existing && !Self::is_free(root)? {
            same_experiment(root, recipe, manifest)?;
        }
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let path = root.join(LOCK);
        let lock = File::create(&path).map_err(Error::io("write", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: root.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::io("write", path)(source)),
        }
        let directory = Self { root: root.to_owned(), _lock: lock };
        directory.sweep()?;
        if !root.join(MANIFEST).exists() {
            directory.replace(RECIPE, &recipe.toml())?;
            directory.write_manifest(manifest)?;
        }
        Ok(directory)
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
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(PARTIAL) && path.is_dir() {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            } else if name.starts_with(PARTIAL) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
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
        self.replace(MANIFEST, &(text + "\n"))
    }

    fn replace(&self, name: &str, text: &str) -> Result<()> {
        let (partial, place) = (self.root.join(format!("{PARTIAL}{name}")), self.root.join(name));
        fs::write(&partial, text).map_err(Error::io("write", &partial))?;
        fs::rename(&partial, &place).map_err(Error::io("write", &place))
    }

    /// Where a cell lies.
    pub fn cell(&self, cell: &CellId) -> PathBuf {
        self.root.join(cell.path())
    }

    /// Whether a cell is there.
    pub fn holds(&self, cell: &CellId) -> bool {
        self.cell(cell).is_dir()
    }

    /// Writes a cell: `fill` writes into a directory that becomes the cell's when it is complete.
    ///
    /// # Errors
    /// When `fill` fails, or the cell cannot be put in place.
    pub fn write_cell(&self, cell: &CellId, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let place = self.cell(cell);
        let parent = place.parent().unwrap_or(&self.root);
        // The lock keeps other processes out, and no two threads compute one cell.
        let name = cell.path().to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
        let partial = self.root.join(format!("{PARTIAL}{name}"));
        fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
        let put = || {
            fill(&partial)?;
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            fs::rename(&partial, &place).map_err(Error::io("write", &place))
        };
        put().inspect_err(|_| {
            // What cannot be removed now is swept away by the next call.
            let _ = fs::remove_dir_all(&partial);
        })
    }

    /// The records of all cells of `plan` that are there.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn records(&self, plan: &Plan) -> Result<Vec<Record>> {
        let cells = plan.cells().into_iter().filter(|cell| self.holds(cell));
        cells.map(|cell| read_json(&self.cell(&cell).join("result.json"))).collect()
    }

    /// The answers kept in a cell.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn answers(&self, cell: &CellId) -> Result<Vec<Answer>> {
        read_lines(&self.cell(cell).join("generations.jsonl"))
    }
}

/// Checks that the experiment in `root` is the one of `recipe`.
fn same_experiment(root: &Path, recipe: &Recipe, manifest: &Manifest) -> Result<()> {
    let other = |difference: String| Error::OtherExperiment { path: root.to_owned(), difference };
    let there = recipe_file::read(&root.join(RECIPE)).and_then(resolve::resolve);
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
