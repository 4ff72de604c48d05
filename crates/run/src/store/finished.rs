//! Runs that are done: what `--from`, `eval`, `generate`, `export` and `runs` start from.

use std::fs;
use std::path::{Path, PathBuf};

use vxf_core::{Params, Stage, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_recipe::{Experiment, Layer};
use vxf_report::{Record, RunId};

use super::files::read_json;
use super::manifest::Manifest;
use super::weights;
use crate::model::Base;
use crate::plan::{Graph, Source};
use crate::{Error, Result};

const MANIFEST: &str = "manifest.json";
const RECIPE: &str = "config.resolved.toml";
/// The record of a run that is trained.
pub(crate) const TRAINING: &str = "training.json";
/// The same with all that was measured.
pub(crate) const RESULT: &str = "result.json";
/// A run lies at most so many levels below its experiment: label, ratio, seed, further axes.
const DEEPEST: usize = 12;

/// A run that is done.
#[derive(Debug)]
pub struct Run {
    /// Its directory.
    pub place: PathBuf,
    /// Its record.
    pub record: Record,
    /// The directory of its experiment.
    pub root: PathBuf,
}

/// What one run trained, and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Layered {
    /// Its stage.
    pub stage: Stage,
    /// What was trained.
    pub trainable: Trainable,
    /// The run's directory.
    pub place: PathBuf,
}

impl Run {
    /// Whether `path` is a run or an experiment, finished or not.
    pub fn is_run(path: &Path) -> bool {
        Self::is_single(path) || path.join(MANIFEST).is_file()
    }

    /// Whether `path` is a single run: trained, and perhaps measured.
    pub fn is_single(path: &Path) -> bool {
        path.join(RESULT).is_file() || path.join(TRAINING).is_file()
    }

    /// The run in `path`: `EXPERIMENT/<methods>/<ratio or aligned>/<seed>`, or an experiment in which
    /// only one run can be meant.
    ///
    /// # Errors
    /// When it is no run, or several runs could be meant.
    pub fn open(path: &Path) -> Result<Self> {
        Self::choose(path, |_| true)
    }

    /// The run in `path` that a stage after the provider's may start from; of an experiment, the
    /// aligned one.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn to_start_from(path: &Path) -> Result<Self> {
        Self::choose(path, |id| id.ratio.is_none())
    }

    /// The experiment that `path` is, or lies in.
    ///
    /// # Errors
    /// When there is none.
    pub fn root_of(path: &Path) -> Result<PathBuf> {
        let fail = |problem: &str| Error::NoRun { path: path.to_owned(), problem: problem.into() };
        let absolute = path.canonicalize().map_err(|_| fail("no such directory"))?;
        let mut above = absolute.ancestors().take(DEEPEST);
        let found = above.find(|root| root.join(MANIFEST).is_file());
        found.map(Path::to_owned).ok_or_else(|| fail("no run: there is no manifest.json"))
    }

    /// The directories of all runs that are in the experiment `root`, in the order of their paths.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn places(root: &Path) -> Result<Vec<PathBuf>> {
        let (mut found, mut open) = (Vec::new(), vec![(root.to_owned(), 0)]);
        while let Some((directory, depth)) = open.pop() {
            for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
                let entry = entry.map_err(Error::io("read", &directory))?;
                let (path, name) = (entry.path(), entry.file_name());
                let hidden = name.to_string_lossy().starts_with('.') || name == "checkpoints";
                // A link may lead anywhere, and nothing here is one.
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if hidden || !is_directory || depth >= DEEPEST {
                    continue;
                }
                if Self::is_single(&path) {
                    found.push(path.clone());
                }
                open.push((path, depth + 1));
            }
        }
        found.sort();
        Ok(found)
    }

    fn choose(path: &Path, wanted: impl Fn(&RunId) -> bool) -> Result<Self> {
        let fail = |problem: String| Error::NoRun { path: path.to_owned(), problem };
        if !path.is_dir() {
            return Err(fail("no such directory".into()));
        }
        let path = path.canonicalize().map_err(Error::io("read", path))?;
        if Self::is_single(&path) {
            let mut above = path.ancestors().skip(1).take(DEEPEST);
            let root = above.find(|root| root.join(MANIFEST).is_file());
            let inside = "not inside an experiment: there is no manifest.json above it";
            let root = root.ok_or_else(|| fail(inside.into()))?.to_owned();
            return Self::read(path, root);
        }
        if !path.join(MANIFEST).is_file() {
            return Err(fail("no run: it has no result.json and no manifest.json".into()));
        }
        let graph = graph(&path)?;
        let there = |id: &&RunId| wanted(id) && path.join(id.path()).is_dir();
        let mut there: Vec<_> = graph.runs.iter().map(|run| &run.id).filter(there).collect();
        // Of an experiment that compares, the method under test is meant.
        let last = graph.layout.blocks.last();
        let tested: Vec<_> = last.into_iter().flat_map(|block| &block.tested).collect();
        let is_tested = |id: &RunId| {
            tested
                .iter()
                .any(|name| **name == id.row() || name.starts_with(&format!("{}+", id.row())))
        };
        if there.len() > 1 && there.iter().any(|id| is_tested(id)) {
            there.retain(|id| is_tested(id));
        }
        match there.as_slice() {
            [id] => Self::read(path.join(id.path()), path),
            [] => Err(fail("an experiment, but the run that is meant is not done in it".into())),
            several => {
                let names: Vec<_> =
                    several.iter().take(6).map(|id| id.path().display().to_string()).collect();
                let names = names.join(", ");
                Err(fail(format!("an experiment of several runs; name one of them: {names}")))
            }
        }
    }

    fn read(place: PathBuf, root: PathBuf) -> Result<Self> {
        let record = record(&place)?;
        Ok(Self { place, record, root })
    }

    /// Whether it was measured.
    pub fn is_measured(&self) -> bool {
        self.place.join(RESULT).is_file()
    }

    /// The settings of its experiment.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn layer(&self) -> Result<Layer> {
        layer(&self.root)
    }

    /// Its experiment as resolved.
    ///
    /// # Errors
    /// When its recipe cannot be read.
    pub fn experiment(&self) -> Result<Experiment> {
        experiment(&self.root)
    }

    /// The run that it started from; none if that is the base model.
    ///
    /// # Errors
    /// When that run is gone.
    pub fn parent(&self) -> Result<Option<Self>> {
        let Some(parent) = &self.record.parent else { return Ok(None) };
        let place = self.root.join(parent);
        let root = Self::root_of(&place)?;
        Self::read(place, root).map(Some)
    }

    /// The runs that lead to it, the first stage first, itself included.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn lineage(self) -> Result<Vec<Self>> {
        let mut path = vec![self];
        while let Some(parent) = path[path.len() - 1].parent()? {
            path.push(parent);
        }
        path.reverse();
        Ok(path)
    }

    /// What it changed of the model that it started from.
    fn layer_of_its_own(&self) -> Option<Layered> {
        self.record.has_weights().then(|| Layered {
            stage: self.record.stage,
            trainable: self.record.trainable.clone(),
            place: self.place.clone(),
        })
    }

    /// What decides its weights, for runs that start from it.
    pub fn source(&self) -> Result<Source> {
        let digest = match &self.record.digest {
            Some(digest) => digest.clone(),
            // Runs of version 1 are known by what they hold.
            None => match self.record.has_weights() {
                true => crate::model::directory_digest(&self.place)?,
                false => "the base model".to_owned(),
            },
        };
        Ok(Source { id: self.record.id.clone(), digest })
    }
}

/// What a line of runs trained upon the base, the first first. A run that trained its parent's adapter
/// further takes that one's place.
pub fn layers(lineage: &[Run]) -> Vec<Layered> {
    let mut layers: Vec<Layered> = Vec::new();
    for run in lineage {
        let Some(layer) = run.layer_of_its_own() else { continue };
        if run.record.continues {
            layers.pop();
        }
        layers.push(layer);
    }
    layers
}

impl Layered {
    /// Its weights.
    ///
    /// # Errors
    /// When they are missing or damaged.
    pub fn weights(&self, base: &Base) -> Result<Params> {
        let path = weights::path(&self.trainable, &self.place);
        if !path.exists() {
            let path = path.display().to_string();
            let problem = "is missing; `--keep` or `vxf prune` may have removed it to save disk: run \
                           it again in another directory with `--keep weights`";
            return Err(vxf_core::Error::Checkpoint { path, problem: problem.into() }.into());
        }
        weights::load(&self.trainable, &self.place, base.dtype(), base.device())
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

/// The manifest of the experiment in `root`.
///
/// # Errors
/// When it cannot be read.
pub fn manifest(root: &Path) -> Result<Manifest> {
    read_json(&root.join(MANIFEST))
}

/// The experiment in `root` as resolved.
///
/// # Errors
/// When its recipe cannot be read.
pub fn experiment(root: &Path) -> Result<Experiment> {
    Ok(Experiment::of(layer(root)?)?)
}

/// The graph of the experiment in `root`.
///
/// # Errors
/// When its recipe cannot be read, or the run that it starts from is gone.
pub fn graph(root: &Path) -> Result<Graph> {
    let experiment = experiment(root)?;
    let source = match experiment.recipe().settings.from.as_str() {
        "" => None,
        from => Some(Run::to_start_from(Path::new(from))?.source()?),
    };
    Graph::of(&experiment, source.as_ref())
}

/// The settings of the experiment in `root`.
///
/// # Errors
/// When they cannot be read.
pub fn layer(root: &Path) -> Result<Layer> {
    // Experiments of version 1 have paths that are relative to where they were begun.
    let base = manifest(root)?.directory;
    Ok(vxf_recipe::file::read_resolved(&root.join(RECIPE), &base)?)
}
