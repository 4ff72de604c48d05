//! A checked experiment before execution: recipe, graph, model, judges and data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use vxf_data::{DataContext, DataReport, DataSource};
use vxf_recipe::settings::Quantize;
use vxf_recipe::{Experiment, Recipe, digest};
use vxf_report::samples::Overlap;

use super::progress::Progress;
use super::reuse::Others;
use crate::Result;
use crate::measure::data::SetName;
use crate::measure::{Judges, SeedData, metrics};
use crate::plan::cost::{Sizes, Workload};
use crate::plan::{Graph, RunSpec, check};
use crate::store::manifest::{Manifest, cores};
use crate::store::{Directory, Run};
use vxf_access::{Access, Base};

/// Memory of a process besides model and training in bytes: program, data, answers.
const BESIDE: u64 = 128 << 20;

/// By the key of a point's data, and by seed.
type ByPointAndSeed<T> = BTreeMap<(String, u64), T>;

/// Data sources by the key of their data.
type Sources = BTreeMap<String, Box<dyn DataSource>>;

/// The data and metrics of a run.
pub(super) struct Drawn {
    pub(super) data: SeedData,
    /// Metric names, each with a digest of what its figures depend on.
    wanted: BTreeMap<String, String>,
}

/// An experiment whose model, data and graph have been checked; nothing is written yet.
pub struct Prepared {
    /// The recipe with its axes.
    pub experiment: Experiment,
    /// Its runs.
    pub graph: Graph,
    /// The model.
    pub base: Arc<Base>,
    /// For each run, the digest of what decides its weights.
    pub(crate) digests: Vec<String>,
    /// The judges.
    pub judges: Judges,
    /// The directory of the run that pipelines start from.
    pub source: Option<PathBuf>,
    /// The manifest of this process.
    pub manifest: Manifest,
    /// How models and data are found.
    pub access: Arc<Access>,
    /// Points with the same data settings share their data.
    pub(super) drawn: ByPointAndSeed<Drawn>,
    /// The key of the data of each point.
    keys: Vec<String>,
    names: BTreeSet<String>,
    /// Threads for tensor operations and runs.
    pub threads: usize,
    /// Processes that share this machine's memory.
    pub(super) workers: usize,
    /// Runs of other experiments that may serve this one.
    pub(super) others: Others,
}

impl Prepared {
    /// Opens the model and draws the data, without writing anything.
    ///
    /// # Errors
    /// When the model, its tokenizer, or the data cannot be used.
    pub fn new(experiment: Experiment, access: Access) -> Result<Self> {
        Self::with(experiment, Arc::new(access))
    }

    /// The same with access that is shared.
    pub(crate) fn with(experiment: Experiment, access: Arc<Access>) -> Result<Self> {
        let recipe = experiment.recipe().clone();
        let (mut source, mut place) = (None, None);
        if !recipe.settings.from.is_empty() {
            let run = Run::to_start_from(Path::new(&recipe.settings.from))?;
            access.examine(&run.place);
            source = Some(run.source()?);
            place = Some(run.place);
        }
        let graph = Graph::of(&experiment, source.as_ref())?;
        check::sets(&experiment, &graph)?;
        let base = Arc::new(Base::open(&recipe, &access)?);
        check::model(&graph, &base.outline, experiment.recipe().model.quantize)?;
        // Better to learn of a missing judge now than after hours of training.
        let judges = Judges::build(&recipe, &base, &access)?;
        let (drawn, sources) = draw(&experiment, &graph, &base, &access)?;
        let threads = match recipe.settings.threads {
            0 => cores(),
            given => given,
        };
        let mut manifest = Manifest::begin(&experiment, &base, threads)?;
        manifest.source = source.as_ref().map(|source| source.digest.clone());
        let keys: Vec<_> = experiment.points.iter().map(|point| data_key(&point.recipe)).collect();
        note_data(&mut manifest, &keys, &drawn, &sources)?;
        let most = drawn.values().map(|drawn| drawn.data.longest_answer()).max();
        if let Some(remark) = most.and_then(|most| base.codec.other_limit(most)) {
            access.note(&remark);
        }
        manifest.commits = access.commits();
        manifest.warnings = access.warnings();
        let names = graph.runs.iter().flat_map(|run| run.stage.needs().streams);
        let names = names.map(|need| need.name).collect();
        let mut prepared = Self {
            experiment,
            graph,
            base,
            digests: Vec::new(),
            judges,
            source: place,
            manifest,
            access,
            drawn,
            keys,
            names,
            threads,
            workers: 1,
            others: Others::default(),
        };
        prepared.digests = prepared.identities(source.map(|source| source.digest));
        Ok(prepared)
    }

    /// Says that the harmful samples of defences and those of the attack share questions, if they do.
    pub fn seen_attack(&self) -> Option<String> {
        self.manifest.report.as_ref()?.seen_attack()
    }

    /// The identity of each run: a digest of its parent's identity, its stage, the content of its data,
    /// its seed, and the version of the arithmetic. It contains no path and nothing about measurements.
    fn identities(&self, source: Option<String>) -> Vec<String> {
        let model = &self.manifest.model;
        // The identity of a start run covers the base model.
        let settings = &self.recipe(0).model;
        let base = || match settings.quantize {
            Quantize::None => json!([vxf_core::NUMERICS, model, settings.dtype]),
            held => json!([vxf_core::NUMERICS, model, settings.dtype, held]),
        };
        let root = source.map_or_else(base, |source| json!([vxf_core::NUMERICS, source]));
        let mut digests: Vec<String> = Vec::new();
        for (index, run) in self.graph.runs.iter().enumerate() {
            let parent = run.parent.map_or(root.clone(), |parent| json!(digests[parent]));
            let data = self.data(index);
            let sets: Vec<_> = wanted_sets(run).iter().map(|name| data.set(name)).collect();
            let sets: Vec<_> = sets.into_iter().map(|set| set.map(|set| set.digest())).collect();
            let value = json!([parent, run.stage.value(), sets, run.id.seed, run.earlier]);
            digests.push(digest(&value));
        }
        digests
    }

    /// The recipe of a run.
    pub(crate) fn recipe(&self, run: usize) -> &Recipe {
        &self.experiment.points[self.graph.runs[run].point].recipe
    }

    fn drawn(&self, run: usize) -> &Drawn {
        let RunSpec { id, point, .. } = &self.graph.runs[run];
        &self.drawn[&(self.keys[*point].clone(), id.seed)]
    }

    /// The data of a run.
    pub(crate) fn data(&self, run: usize) -> &SeedData {
        &self.drawn(run).data
    }

    /// The metrics of a run, each with a digest of what its figures depend on.
    pub(crate) fn wanted(&self, run: usize) -> &BTreeMap<String, String> {
        &self.drawn(run).wanted
    }

    /// A stream name that lives as long as `self`.
    pub(crate) fn stream_name(&self, name: &str) -> &str {
        self.names.get(name).map_or("", String::as_str)
    }

    /// Number of optimiser steps of a run.
    pub fn steps(&self, run: usize) -> u64 {
        let RunSpec { id, stage, .. } = &self.graph.runs[run];
        let set = self.data(run).set(&SetName::new(&stage.set, id.ratio));
        match stage.trains() {
            true => stage.training.steps(set.map_or(0, |set| set.examples.len())),
            false => 0,
        }
    }

    /// Estimated memory in bytes of the run that needs most.
    ///
    /// # Errors
    /// When an adapter names a layer that the model does not have.
    pub fn bytes(&self) -> Result<u64> {
        let (recipe, base) = (self.experiment.recipe(), &self.base);
        let sizes = Sizes::of(recipe, &base.outline, base.device(), self.recompute()?);
        let mut most = 0;
        for (index, run) in self.graph.runs.iter().enumerate() {
            let set = self.data(index).set(&SetName::new(&run.stage.set, run.id.ratio));
            let bound = || Workload::bound(self.recipe(index), &base.outline, &run.stage.set);
            let load = set.map_or_else(bound, Workload::counted);
            most = most.max(sizes.stage(&run.stage, &load)?.bytes);
        }
        Ok(most + BESIDE)
    }

    /// Whether a run is trained and measured with all metrics.
    pub fn is_done(&self, directory: &Directory, run: usize) -> bool {
        let id = &self.graph.runs[run].id;
        directory.holds(id) && directory.has_measured(id, self.wanted(run))
    }

    /// Whether all runs are.
    pub fn all_done(&self, directory: &Directory) -> bool {
        (0..self.graph.runs.len()).all(|run| self.is_done(directory, run))
    }

    /// How many prompts of each set are in a training set of their seed.
    pub(super) fn overlaps(&self) -> BTreeMap<String, Overlap> {
        let mut all: BTreeMap<String, Overlap> = BTreeMap::new();
        for drawn in self.drawn.values() {
            for (name, overlap) in drawn.data.overlaps() {
                let sum = all.entry(name).or_default();
                sum.prompts += overlap.prompts;
                sum.trained_on += overlap.trained_on;
            }
        }
        all
    }

    /// The report on the files that were read, if any.
    pub fn report(&self) -> Option<&DataReport> {
        self.manifest.report.as_ref()
    }

    /// Notes for each set how many samples were truncated or dropped.
    pub(super) fn report_truncation(&self, progress: &dyn Progress) {
        for ((_, seed), drawn) in &self.drawn {
            for (name, set) in drawn.data.sets() {
                if set.truncated + set.dropped > 0 {
                    progress.note(&format!(
                        "seed {seed}, {name} set: {} samples truncated; {} dropped because no answer was \
                         left; {} remain",
                        set.truncated,
                        set.dropped,
                        set.examples.len()
                    ));
                }
            }
        }
    }
}

/// A key that differs between recipes with different data settings.
fn data_key(recipe: &Recipe) -> String {
    digest(&json!([recipe.data.name, recipe.data.value(), recipe.settings.harmful_ratios]))
}

/// The training sets that a run reads.
fn wanted_sets(run: &RunSpec) -> Vec<SetName> {
    let main = run.stage.trains().then(|| run.stage.set.clone());
    let needs = run.stage.needs().streams.into_iter().map(|need| need.set().to_owned());
    main.into_iter().chain(needs).map(|name| SetName::new(&name, run.id.ratio)).collect()
}

/// Draws the data of every point and seed; also returns the sources, by the key of their data.
fn draw(
    experiment: &Experiment,
    graph: &Graph,
    base: &Base,
    access: &Arc<Access>,
) -> Result<(ByPointAndSeed<Drawn>, Sources)> {
    let mut wanted: ByPointAndSeed<(usize, BTreeSet<SetName>)> = BTreeMap::new();
    for run in &graph.runs {
        let recipe = &experiment.points[run.point].recipe;
        let key = (data_key(recipe), run.id.seed);
        let (_, sets) = wanted.entry(key).or_insert_with(|| (run.point, BTreeSet::new()));
        let has = |name: &SetName| recipe.data.config.has(vxf_data::Purpose::Stream, name.name());
        sets.extend(wanted_sets(run).into_iter().filter(has));
    }
    let (mut drawn, mut sources) = (BTreeMap::new(), Sources::new());
    for ((key, seed), (point, sets)) in wanted {
        let recipe = &experiment.points[point].recipe;
        if !sources.contains_key(&key) {
            let ratios = recipe.settings.harmful_ratios.clone();
            let context = DataContext { ratios, locate: access.clone(), check: Some(base.check()) };
            sources.insert(key.clone(), recipe.data.config.open(&context)?);
        }
        let data = SeedData::draw(&*sources[&key], recipe, base, seed, &sets)?;
        let wanted = metrics::wanted(recipe, &data);
        drawn.insert((key, seed), Drawn { data, wanted });
    }
    Ok((drawn, sources))
}

/// Writes the digests of the data into the manifest, and the first report on its files.
fn note_data(
    manifest: &mut Manifest,
    keys: &[String],
    drawn: &ByPointAndSeed<Drawn>,
    sources: &Sources,
) -> Result<()> {
    let several = keys.iter().any(|key| *key != keys[0]);
    for ((key, seed), each) in drawn {
        let name = match several {
            true => format!("{seed} of {}", &key[..8]),
            false => seed.to_string(),
        };
        manifest.data.insert(name, each.data.digests());
        if manifest.report.is_none()
            && let Some(source) = sources.get(key)
        {
            let learned = |name: &str, ratio: f64| each.data.learned(name, ratio);
            manifest.report = source.report(*seed, &learned)?;
        }
    }
    Ok(())
}
