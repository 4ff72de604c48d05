//! Completed runs, as used by `--from`, `eval`, `generate`, `export` and `runs`.

use std::fs;
use std::path::{Path, PathBuf};

use vxf_core::{Params, Stage, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_recipe::{Experiment, Layer, Recipe};
use vxf_report::{Record, RunId};

use super::files::read_json;
use super::manifest::Manifest;
use super::weights;
use crate::plan::{Graph, Source};
use crate::{Error, Result};
use vxf_access::Base;

pub(super) const MANIFEST: &str = "manifest.json";
/// The resolved recipe.
pub(super) const RECIPE: &str = "config.resolved.toml";
/// The record of a trained run.
pub(crate) const TRAINING: &str = "training.json";
/// The record with all measurements.
pub(crate) const RESULT: &str = "result.json";
/// Maximum depth of a run below its experiment: label, ratio, seed, further axes.
const DEEPEST: usize = 12;

/// A completed run.
#[derive(Debug)]
pub struct Run {
    /// Its directory.
    pub place: PathBuf,
    /// Its record.
    pub record: Record,
    /// The directory of its experiment.
    pub root: PathBuf,
}

/// The weights that one run trained.
#[derive(Clone, Debug, PartialEq)]
pub struct StageWeights {
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

    /// Opens the run in `path`: `EXPERIMENT/<methods>/<ratio or aligned>/<seed>`, or an experiment with
    /// only one candidate.
    ///
    /// # Errors
    /// When it is not a run, or there are several candidates.
    pub fn open(path: &Path) -> Result<Self> {
        Self::choose(path, |_| true)
    }

    /// Opens the run in `path` from which a later stage starts; for an experiment, its aligned run.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn to_start_from(path: &Path) -> Result<Self> {
        Self::choose(path, |id| id.ratio.is_none())
    }

    /// The directory of the experiment that `path` is or belongs to.
    ///
    /// # Errors
    /// When there is none.
    pub fn root_of(path: &Path) -> Result<PathBuf> {
        let fail = |problem: &str| Error::NoRun { path: path.to_owned(), problem: problem.into() };
        let instead = || format!("no such directory{}", vxf_recipe::instead::instead(path));
        let absolute = path.canonicalize().map_err(|_| fail(&instead()))?;
        let mut above = absolute.ancestors().take(DEEPEST);
        let found = above.find(|root| root.join(MANIFEST).is_file());
        found.map(Path::to_owned).ok_or_else(|| fail(&no_experiment(&absolute)))
    }

    /// The directories of all runs in the experiment `root`, sorted by path.
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
                // Symbolic links are not followed: an experiment has none.
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
            return Err(fail("not a run: it has neither result.json nor manifest.json".into()));
        }
        let graph = graph(&path)?;
        let there = |id: &&RunId| wanted(id) && path.join(id.path()).is_dir();
        let mut there: Vec<_> = graph.runs.iter().map(|run| &run.id).filter(there).collect();
        // In an experiment that compares methods, the tested method is meant.
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
            [] => Err(fail("an experiment in which the required run is not done".into())),
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

    /// Whether it has results.
    pub fn is_measured(&self) -> bool {
        self.place.join(RESULT).is_file()
    }

    /// The settings of its experiment, as a layer.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn layer(&self) -> Result<Layer> {
        layer(&self.root)
    }

    /// Its experiment, as resolved.
    ///
    /// # Errors
    /// When its recipe cannot be read.
    pub fn experiment(&self) -> Result<Experiment> {
        experiment(&self.root)
    }

    /// Its parent; `None` if it started from the base model.
    ///
    /// # Errors
    /// When the parent is missing.
    pub fn parent(&self) -> Result<Option<Self>> {
        let Some(parent) = &self.record.parent else { return Ok(None) };
        let place = self.root.join(parent);
        let root = Self::root_of(&place)?;
        Self::read(place, root).map(Some)
    }

    /// The run and its ancestors, the first stage first.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn lineage(self) -> Result<Vec<Self>> {
        let mut path = vec![self];
        while let Some(parent) = path[path.len() - 1].parent()? {
            path.push(parent);
        }
        path.reverse();
        Ok(path)
    }

    /// The weights it trained, if any.
    fn layer_of_its_own(&self) -> Option<StageWeights> {
        self.record.has_weights().then(|| StageWeights {
            stage: self.record.stage,
            trainable: self.record.trainable.clone(),
            place: self.place.clone(),
        })
    }

    /// Its identity, for runs that start from it.
    pub fn source(&self) -> Result<Source> {
        let digest = match &self.record.digest {
            Some(digest) => digest.clone(),
            // Runs of version 1 are identified by their files.
            None => match self.record.has_weights() {
                true => vxf_access::directory_digest(&self.place)?,
                false => "the base model".to_owned(),
            },
        };
        let id = self.record.id.clone();
        // A report needs no ancestors; a run that starts from this one says which is missing.
        let own = || Self::read(self.place.clone(), self.root.clone());
        let lineage = own()?.lineage().or_else(|_| own().map(|run| vec![run]))?;
        let stages = lineage.iter().map(|run| run.record.stage).collect();
        let trained = layers(&lineage).pop().map(|layer| layer.trainable);
        Ok(Source { id, digest, stages, trained })
    }
}

/// The part of a lineage up to the last alignment stage.
pub(crate) fn aligned(lineage: &[Run]) -> &[Run] {
    let last = lineage.iter().rposition(|run| run.record.stage == Stage::Alignment);
    last.map_or(&[], |last| &lineage[..=last])
}

/// The aligned part of the `lineage` before the run `id`, if the run is a user's and started from a later stage: its
/// drift is measured from the aligned model all the same.
pub(crate) fn apart<'a>(id: &RunId, lineage: &'a [Run]) -> Option<&'a [Run]> {
    let aligned = aligned(lineage);
    (id.ratio.is_some() && aligned.len() < lineage.len()).then_some(aligned)
}

/// The weights trained by the runs of a lineage, in order. If a run trained its parent's adapter further,
/// its own weights replace the parent's.
pub fn layers(lineage: &[Run]) -> Vec<StageWeights> {
    let mut layers: Vec<StageWeights> = Vec::new();
    for run in lineage {
        let Some(layer) = run.layer_of_its_own() else { continue };
        if run.record.continues {
            layers.pop();
        }
        layers.push(layer);
    }
    layers
}

impl StageWeights {
    /// Whether they are still there.
    pub(crate) fn exists(&self) -> bool {
        weights::path(&self.trainable, &self.place).exists()
    }

    /// Its weights.
    ///
    /// # Errors
    /// When they are missing or damaged.
    pub fn weights(&self, base: &Base) -> Result<Params> {
        if !self.exists() {
            let path = weights::path(&self.trainable, &self.place).display().to_string();
            let problem = "is missing; `--keep` or `vxf prune` may have removed it to save disk: run \
                           it again in another directory with `--keep weights`";
            return Err(vxf_core::Error::Checkpoint { path, problem: problem.into() }.into());
        }
        weights::load(&self.trainable, &self.place, base.dtype(), base.device())
    }
}

/// `base` with all layers merged, in order.
///
/// # Errors
/// When weights are missing or do not match `base`.
pub fn merged(base: &Base, layers: &[StageWeights]) -> Result<Checkpoint> {
    let mut checkpoint = base.checkpoint.clone();
    for layer in layers {
        checkpoint = checkpoint.merged(&layer.trainable, &layer.weights(base)?)?;
    }
    Ok(checkpoint)
}

/// The record of the run in `place`, with all measurements so far.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn record(place: &Path) -> Result<Record> {
    // Runs of older versions have only a result.
    let measured = place.join(RESULT);
    let trained = place.join(TRAINING);
    read_json(if measured.is_file() || !trained.is_file() { &measured } else { &trained })
}

/// Leaves out figures of metrics that the experiment does not ask for: they stay in their files.
pub(crate) fn only_asked(records: &mut [Record], experiment: &Experiment) {
    let metrics = &experiment.recipe().metrics;
    for record in records {
        record.measurements.retain(|row| metrics.iter().any(|metric| metric.name == row.metric));
    }
}

/// The manifest of the experiment in `root`.
///
/// # Errors
/// When it cannot be read.
pub fn manifest(root: &Path) -> Result<Manifest> {
    read_json(&root.join(MANIFEST))
}

/// The experiment in `root`, as resolved.
///
/// # Errors
/// When its recipe cannot be read.
pub fn experiment(root: &Path) -> Result<Experiment> {
    Ok(Experiment::of(layer(root)?)?)
}

/// The graph of the experiment in `root`.
///
/// # Errors
/// When its recipe cannot be read, or the run that it starts from is missing.
pub fn graph(root: &Path) -> Result<Graph> {
    let experiment = experiment(root)?;
    let source = source(experiment.recipe())?;
    Graph::of(&experiment, source.as_ref())
}

/// The run that the pipelines of `recipe` start from; `None` if they start from the base model.
///
/// # Errors
/// When the run is missing.
pub(crate) fn source(recipe: &Recipe) -> Result<Option<Source>> {
    match recipe.settings.from.as_str() {
        "" => Ok(None),
        from => Run::to_start_from(Path::new(from))?.source().map(Some),
    }
}

/// The settings of the experiment in `root`, as a layer.
///
/// # Errors
/// When they cannot be read.
pub fn layer(root: &Path) -> Result<Layer> {
    // In experiments of version 1, paths are relative to their working directory.
    let base = manifest(root)?.directory;
    Ok(vxf_recipe::file::read_resolved(&root.join(RECIPE), &base)?)
}

/// What a directory without a manifest is.
fn no_experiment(path: &Path) -> String {
    if path.is_file() {
        return "a file, and no run or experiment".to_owned();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut held: Vec<_> = entries.filter(|place| place.join(MANIFEST).is_file()).collect();
    held.sort();
    let names = held.iter().filter_map(|place| place.file_name()?.to_str().map(str::to_owned));
    let names: Vec<_> = names.collect();
    match names.first() {
        None => "not a run: there is no manifest.json".to_owned(),
        Some(first) => {
            let others = match names.len() {
                1 => String::new(),
                several => format!(" and {} more", several - 1),
            };
            format!(
                "not a run: it holds the experiment {first}{others}; name one, or repeat the command that made it"
            )
        }
    }
}
