//! Finished runs: what `--from`, `eval`, `generate` and `export` start from.

use std::path::{Path, PathBuf};

use vxf_core::checkpoint::Checkpoint;
use vxf_core::{Params, Stage, Trainable};

use crate::instead::instead;
use crate::layer::Layer;
use crate::manifest::Manifest;
use crate::model::{Base, file_digest};
use crate::plan::{CellId, Plan};
use crate::recipe::Recipe;
use crate::record::{Record, read_json};
use crate::{Error, Result, recipe_file, resolve, stage};

/// A cell of an experiment that is done.
pub struct Run {
    /// Its directory.
    pub place: PathBuf,
    /// Its record.
    pub record: Record,
    /// The directory of its experiment.
    pub root: PathBuf,
    /// The recipe of its experiment.
    pub recipe: Recipe,
}

/// What one stage trained, and where it lies.
pub struct Layered {
    /// The stage.
    pub stage: Stage,
    /// What was trained.
    pub trainable: Trainable,
    /// The cell's directory.
    pub place: PathBuf,
}

impl Run {
    /// Whether `path` is a cell or an experiment, finished or not.
    pub fn is_run(path: &Path) -> bool {
        Self::is_cell(path) || path.join(MANIFEST).is_file()
    }

    /// Whether `path` is a single run: trained, and perhaps measured.
    pub fn is_cell(path: &Path) -> bool {
        path.join(RESULT).is_file() || path.join(TRAINING).is_file()
    }

    /// The run in `path`: a cell `EXPERIMENT/<defence>/<ratio or aligned>/<seed>`, or an experiment
    /// in which only one cell can be meant.
    ///
    /// # Errors
    /// When it is no run, or several cells could be meant.
    pub fn open(path: &Path) -> Result<Self> {
        Self::choose(path, |_| true)
    }

    /// The aligned run in `path`.
    ///
    /// # Errors
    /// As [`Run::open`], and when a user has already fine-tuned it.
    pub fn aligned(path: &Path) -> Result<Self> {
        let run = Self::choose(path, |cell| cell.ratio.is_none())?;
        match run.record.ratio {
            None => Ok(run),
            Some(_) => Err(Error::NoRun {
                path: path.to_owned(),
                problem: "a user has already fine-tuned this model; name an aligned one".into(),
            }),
        }
    }

    /// The experiment that `path` is, or lies in.
    ///
    /// # Errors
    /// When there is none.
    pub fn root_of(path: &Path) -> Result<PathBuf> {
        let absolute = path.canonicalize().map_err(|_| Error::NoRun {
            path: path.to_owned(),
            problem: format!("no such directory{}", instead(path)),
        })?;
        let found = absolute.ancestors().take(4).find(|root| root.join(MANIFEST).is_file());
        found.map(Path::to_owned).ok_or_else(|| Error::NoRun {
            path: path.to_owned(),
            problem: "no run: there is no manifest.json".into(),
        })
    }

    /// The settings of its experiment.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn layer(&self) -> Result<Layer> {
        layer(&self.root)
    }

    fn choose(path: &Path, wanted: impl Fn(&CellId) -> bool) -> Result<Self> {
        let fail = |problem: String| Error::NoRun { path: path.to_owned(), problem };
        if !path.is_dir() {
            return Err(fail(format!("no such directory{}", instead(path))));
        }
        let path = path.canonicalize().map_err(Error::io("read", path))?;
        if Self::is_cell(&path) {
            let root = path.ancestors().nth(3).filter(|root| root.join(MANIFEST).is_file());
            let inside = "not inside an experiment: three levels up there is no manifest.json";
            let root = root.ok_or_else(|| fail(inside.into()))?.to_owned();
            return Self::read(path, root);
        }
        if !path.join(MANIFEST).is_file() {
            return Err(fail("no run: it has no result.json and no manifest.json".into()));
        }
        let recipe = recipe(&path)?;
        let cells = Plan::of(&recipe)?.cells();
        let there = |cell: &&CellId| wanted(cell) && path.join(cell.path()).is_dir();
        let mut there: Vec<_> = cells.iter().filter(there).collect();
        // Of an experiment that compares, the method under test is meant.
        let tested = Plan::of(&recipe)?.tested;
        if there.len() > 1 && there.iter().any(|cell| cell.label == tested) {
            there.retain(|cell| cell.label == tested);
        }
        match there.as_slice() {
            [cell] => Self::read(path.join(cell.path()), path),
            [] => Err(fail("an experiment, but the run that is meant is not done in it".into())),
            several => {
                let names: Vec<_> =
                    several.iter().take(6).map(|cell| cell.path().display().to_string()).collect();
                let names = names.join(", ");
                Err(fail(format!("an experiment of several runs; name one of them: {names}")))
            }
        }
    }

    fn read(place: PathBuf, root: PathBuf) -> Result<Self> {
        let record = record(&place)?;
        let recipe = recipe(&root)?;
        Ok(Self { place, record, root, recipe })
    }

    /// The manifest of its experiment.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self) -> Result<Manifest> {
        read_json(&self.root.join(MANIFEST))
    }

    /// What was trained upon the base, the first stage first; nothing for a model as it was.
    ///
    /// # Errors
    /// When the run that it began with is gone.
    pub fn layers(&self) -> Result<Vec<Layered>> {
        let mut layers = Vec::new();
        if !self.record.continues {
            layers.extend(self.below()?);
        }
        if self.record.steps > 0 {
            let (stage, trainable) = (self.record.stage, self.record.trainable.clone());
            layers.push(Layered { stage, trainable, place: self.place.clone() });
        }
        Ok(layers)
    }

    /// SHA-256 of the weights that it trained; none if it trained none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn weights_digest(&self) -> Result<Option<String>> {
        let file = match (self.record.steps, &self.record.trainable) {
            (0, _) => return Ok(None),
            (_, Trainable::Lora(_)) => "adapter/adapter_model.safetensors",
            (_, Trainable::Full) => "model.safetensors",
        };
        file_digest(&self.place.join(file)).map(Some)
    }

    /// What the aligned run trained that this one began with.
    ///
    /// # Errors
    /// When that run is gone.
    pub fn below(&self) -> Result<Option<Layered>> {
        let Some(below) = &self.record.below else { return Ok(None) };
        let place = self.root.join(below);
        let record = record(&place)?;
        Ok(Some(Layered { stage: record.stage, trainable: record.trainable, place }))
    }
}

impl Layered {
    /// Its weights.
    ///
    /// # Errors
    /// When they are missing or damaged.
    pub fn weights(&self, base: &Base) -> Result<Params> {
        stage::load(&self.trainable, &self.place, base.dtype(), base.device())
    }
}

/// `base` with every layer merged, in order.
///
/// # Errors
/// When weights are missing or do not go with `base`.
pub fn merged(base: &Base, layers: &[Layered]) -> Result<Checkpoint> {
    let mut checkpoint = base.checkpoint.clone();
    for layer in layers {
        checkpoint = checkpoint.merged(&layer.trainable, &layer.weights(base)?)?;
    }
    Ok(checkpoint)
}

const MANIFEST: &str = "manifest.json";
/// The record of a run that is trained.
pub(crate) const TRAINING: &str = "training.json";
/// The same with all that was measured.
pub(crate) const RESULT: &str = "result.json";

/// The record of the run in `place`, with all that was measured so far.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn record(place: &Path) -> Result<Record> {
    // Runs of older versions have a result alone.
    let measured = place.join(RESULT);
    let trained = place.join(TRAINING);
    read_json(if measured.is_file() || !trained.is_file() { &measured } else { &trained })
}

/// The recipe of the experiment in `root`.
///
/// # Errors
/// When it cannot be read.
pub fn recipe(root: &Path) -> Result<Recipe> {
    resolve::resolve(layer(root)?)
}

/// The settings of the experiment in `root`.
///
/// # Errors
/// When they cannot be read.
pub fn layer(root: &Path) -> Result<Layer> {
    let path = root.join("config.resolved.toml");
    // Experiments of older versions have paths that are relative to where they were begun.
    let manifest: Manifest = read_json(&root.join(MANIFEST))?;
    recipe_file::read_resolved(&path, &manifest.directory)
}
