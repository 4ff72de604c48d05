//! Runs an experiment: every run that its directory does not hold yet.
//!
//! Threads take runs from one queue; a run's children are queued when it is done. No figure depends on
//! how many threads there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use vxf_core::engine::Recompute;
use vxf_data::{DataContext, DataReport, DataSource};
use vxf_recipe::settings::Keep;
use vxf_recipe::{Experiment, Recipe, digest};
use vxf_report::{Failure, Failures, Layout, Record, Row, RunId};

use super::control::Control;
use super::progress::Progress;
use super::queue::Queue;
use super::run::Executor;
use super::start::SharedStart;
use crate::access::Access;
use crate::measure::data::SetName;
use crate::measure::{Judges, SeedData, metrics};
use crate::model::Base;
use crate::plan::{Graph, RunSpec, check, cost};
use crate::store::manifest::{Manifest, cores, now};
use crate::store::{Directory, Run, finished, prune};
use crate::{Error, Result, device};

/// A finished experiment. It holds its directory: opened again in this process, that waits until this is
/// dropped.
#[derive(Debug)]
pub struct Finished {
    /// Which runs are compared with which.
    pub layout: Layout,
    /// Its directory.
    pub directory: Directory,
    /// The records of all its runs.
    pub records: Vec<Record>,
    /// The metrics that failed; calling it again tries them again.
    pub failures: Vec<Failure>,
    /// Whether nothing was left to do.
    pub was_finished: bool,
}

/// What a run trains on and is measured by.
struct Drawn {
    data: SeedData,
    /// The metrics, each with a digest of what its figures depend on.
    wanted: BTreeMap<String, String>,
}

/// An experiment whose model, data and graph are known to be sound, before anything is written.
pub struct Prepared {
    /// The recipe with its axes.
    pub experiment: Experiment,
    /// Its runs.
    pub graph: Graph,
    /// The model.
    pub base: Base,
    /// For each run what decides its weights, as a digest.
    pub(crate) digests: Vec<String>,
    /// The judges.
    pub judges: Judges,
    /// The run that pipelines start from.
    pub source: Option<PathBuf>,
    /// The manifest as it would be written now.
    pub manifest: Manifest,
    /// How models and data are found.
    pub access: Arc<Access>,
    /// Data by point and seed; points that agree on their data share it.
    drawn: BTreeMap<(String, u64), Drawn>,
    /// For each point the key of its data.
    keys: Vec<String>,
    names: BTreeSet<String>,
    threads: usize,
}

impl Prepared {
    /// Opens the model and draws the data; writes nothing.
    ///
    /// # Errors
    /// When the model, its tokenizer, or the data cannot be used.
    pub fn new(experiment: Experiment, access: Access) -> Result<Self> {
        let access = Arc::new(access);
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
        let base = Base::open(&recipe, &access)?;
        check::model(&graph, &base.outline)?;
        // A judge that is not there is better known now than after hours of training.
        let judges = Judges::build(&recipe, &base, &access)?;
        let mut sources = BTreeMap::new();
        let drawn = draw(&experiment, &graph, &base, &access, &mut sources)?;
        let threads = match recipe.settings.threads {
            0 => cores(),
            given => given,
        };
        let mut manifest = Manifest::begin(&experiment, &base, threads)?;
        manifest.source = source.as_ref().map(|source| source.digest.clone());
        let keys: Vec<_> = experiment.points.iter().map(|point| data_key(&point.recipe)).collect();
        let several = keys.iter().any(|key| *key != keys[0]);
        for ((key, seed), each) in &drawn {
            let name = match several {
                true => format!("{seed} of {}", &key[..8]),
                false => seed.to_string(),
            };
            manifest.data.insert(name, each.data.digests());
            if manifest.report.is_none()
                && let Some(source) = sources.get(key)
            {
                let learned = |name: &str, ratio: f64| each.data.learned(name, ratio);
                let source: &dyn DataSource = &**source;
                manifest.report = source.report(*seed, &learned)?;
            }
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
        };
        prepared.digests = prepared.identities(source.map(|source| source.digest));
        Ok(prepared)
    }

    /// What decides each run's weights, as a digest: what its parent's weights depend on, its stage, the
    /// content of its data, its seed, and the version of the arithmetic. No path is in it, and nothing
    /// of what is measured.
    fn identities(&self, source: Option<String>) -> Vec<String> {
        let model = &self.manifest.model;
        // A run that is started from says all that its weights depend on.
        let base = || json!([vxf_core::NUMERICS, model, self.recipe(0).model.dtype]);
        let root = source.map_or_else(base, |source| json!(source));
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

    /// The name of a stream that lives as long as this.
    pub(crate) fn stream_name(&self, name: &str) -> &str {
        self.names.get(name).map_or("", String::as_str)
    }

    /// How many optimiser steps a run takes.
    pub(crate) fn steps(&self, run: usize) -> u64 {
        let RunSpec { id, stage, .. } = &self.graph.runs[run];
        let set = self.data(run).set(&SetName::new(&stage.set, id.ratio));
        match stage.trains() {
            true => stage.training.steps(set.map_or(0, |set| set.examples.len())),
            false => 0,
        }
    }

    /// Whether a run is trained and measured by all metrics.
    pub(crate) fn is_done(&self, directory: &Directory, run: usize) -> bool {
        let id = &self.graph.runs[run].id;
        directory.holds(id) && directory.has_measured(id, self.wanted(run))
    }

    fn all_done(&self, directory: &Directory) -> bool {
        (0..self.graph.runs.len()).all(|run| self.is_done(directory, run))
    }

    /// The report on the files that were read.
    pub fn report(&self) -> Option<&DataReport> {
        self.manifest.report.as_ref()
    }

    /// Computes what `output`, or the default directory, does not hold yet.
    ///
    /// # Errors
    /// When the directory cannot be used, or a run cannot be trained; runs that are done stay, and so do
    /// the checkpoints of those that are not. [`Error::Interrupted`] when `control` asked for it. A metric
    /// that fails is no error, but one of the experiment's `failures`.
    pub fn run(
        mut self,
        output: Option<&Path>,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Finished> {
        let root = output.map_or_else(
            || Directory::default_path(&self.experiment, &self.manifest),
            Path::to_owned,
        );
        let fitting = self.recompute()?;
        self.base.prepare()?;
        let directory =
            Directory::open(&root, &self.experiment, &self.manifest, control, progress)?;
        let recompute = match self.experiment.recipe().settings.recompute {
            Keep::Auto if directory.has_begun() => {
                finished::experiment(&root)?.recipe().settings.recompute
            }
            _ => fitting.into(),
        };
        self.experiment.set_recompute(recompute);
        let recompute = recompute.chosen().unwrap_or(fitting);
        let ids: Vec<&RunId> = self.graph.runs.iter().map(|run| &run.id).collect();
        let done = |id: &RunId| {
            let run = self.graph.runs.iter().position(|run| run.id == *id);
            run.is_some_and(|run| self.is_done(&directory, run))
        };
        directory.tidy(&ids, done)?;
        let missing = !self.all_done(&directory);
        let was_finished =
            directory.has_begun() && !missing && directory.manifest()?.finished.is_some();
        match directory.has_begun() {
            false => directory.begin(&self.experiment, &self.manifest)?,
            true if missing => {
                let mut manifest = directory.manifest()?;
                if let Some(warning) = manifest.resume(&self.manifest) {
                    progress.note(&format!("warning: {} {warning}", root.display()));
                }
                directory.write_manifest(&manifest)?;
            }
            true => {}
        }
        directory.write_recipe(&self.experiment)?;
        let failures = Failures::default();
        if missing {
            match self.report() {
                Some(report) => progress.note(&report.to_string()),
                None => self.report_truncation(progress),
            }
            let done = self.work(&directory, recompute, control, progress, &failures);
            progress.end();
            done.map_err(|error| match error {
                Error::Stopped => Error::Interrupted { path: root.clone() },
                error => error,
            })?;
            directory.tidy(&ids, |_| true)?;
        }
        let failures = failures.into_all();
        let mut manifest = directory.manifest()?;
        if manifest.finished.is_none() && failures.is_empty() {
            manifest.finished = Some(now());
            directory.write_manifest(&manifest)?;
        }
        if failures.is_empty() {
            for id in &ids {
                prune::run(&directory.run(id), self.experiment.recipe().settings.keep)?;
            }
        }
        let mut records = directory.records(ids.iter().copied())?;
        // Figures of metrics that an earlier call asked for stay in their files.
        let metrics = &self.experiment.recipe().metrics;
        let asked = |row: &Row| metrics.iter().any(|metric| metric.name == row.metric);
        records.iter_mut().for_each(|record| record.measurements.retain(asked));
        let layout = self.graph.layout;
        Ok(Finished { layout, directory, records, failures, was_finished })
    }

    fn report_truncation(&self, progress: &dyn Progress) {
        for ((_, seed), drawn) in &self.drawn {
            for (name, set) in drawn.data.sets() {
                if set.truncated + set.dropped > 0 {
                    progress.note(&format!(
                        "seed {seed}, {name} set: {} samples cut short; {} left out, as nothing \
                         of their answer was left; {} remain",
                        set.truncated,
                        set.dropped,
                        set.examples.len()
                    ));
                }
            }
        }
    }

    /// What there is memory to keep for the backward pass.
    fn recompute(&self) -> Result<Recompute> {
        let sets = self.drawn.values().flat_map(|drawn| drawn.data.sets());
        let longest = sets.map(|(_, set)| set.longest()).max().unwrap_or(0);
        let at_once = self.threads.min(self.runs_at_once());
        let (recipe, device) = (self.experiment.recipe(), self.base.device());
        cost::recompute(recipe, &self.base.outline, longest, at_once, device)
    }

    /// How many runs may be under way side by side. A model of a user's own is held once; the embedded
    /// one costs nothing.
    fn runs_at_once(&self) -> usize {
        if self.base.embedded() { self.graph.runs.len().max(1) } else { 1 }
    }

    fn work(
        &self,
        directory: &Directory,
        recompute: Recompute,
        control: Control<'_>,
        progress: &dyn Progress,
        failures: &Failures,
    ) -> Result<()> {
        let failed = AtomicBool::new(false);
        let control = Control { failed: &failed, ..control };
        let executor =
            Executor { prepared: self, directory, progress, recompute, control, failures };
        let left: Vec<_> =
            (0..self.graph.runs.len()).filter(|run| !executor.is_done(*run)).collect();
        let steps = left.iter().map(|run| executor.steps_left(*run)).sum();
        if steps == 0 {
            let left = left.len();
            progress.note(&format!("{left} runs are trained and not measured by all metrics yet"));
        }
        progress.begin(steps);
        let workers = self.threads.min(self.runs_at_once()).min(left.len()).max(1);
        // More threads than runs: the rest helps inside the tensor operations.
        let inner = (self.threads / workers).max(1);
        let root = SharedStart::default();
        // What is under test first, as it takes longest.
        let first = self.graph.children(None).collect::<Vec<_>>().into_iter().rev();
        let queue = Queue::new(first.map(|run| Job { run, start: root.clone() }));
        drop(root);
        let errors = Mutex::new(Vec::new());
        let worker = || -> Result<()> {
            let _panicked = Panicked(&failed);
            device::enter(self.base.device())?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(inner).build();
            let pool = pool.map_err(|error| Error::Threads(error.to_string()))?;
            while let Some(turn) = queue.next().filter(|_| !control.stops()) {
                let Job { run, start } = &turn.job;
                let job = || {
                    device::enter(self.base.device())?;
                    executor.carry_out(*run, start)
                };
                match pool.install(job) {
                    Ok(()) => {
                        let start = SharedStart::default();
                        let children = self.graph.children(Some(*run));
                        let job = |run| Job { run, start: start.clone() };
                        turn.done(children.map(job).collect());
                    }
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            for handle in handles {
                match handle.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    }
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The one that stopped the others is the one to tell.
        let first = errors.into_iter().min_by_key(|error| matches!(error, Error::Stopped));
        match first {
            Some(error) => Err(error),
            // Without a stop, what is incomplete has metrics that failed.
            None if control.stops() && !self.all_done(directory) => Err(Error::Stopped),
            None => Ok(()),
        }
    }
}

/// A run to be carried out, and the model that it starts from.
struct Job {
    run: usize,
    start: SharedStart,
}

/// Stops the others where this thread panics.
struct Panicked<'a>(&'a AtomicBool);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// What tells the data of one recipe from that of another within an experiment.
fn data_key(recipe: &Recipe) -> String {
    digest(&json!([recipe.data.name, recipe.data.value(), recipe.settings.harmful_ratios]))
}

/// The training sets that a run reads.
fn wanted_sets(run: &RunSpec) -> Vec<SetName> {
    let main = run.stage.trains().then(|| run.stage.set.clone());
    let needs = run.stage.needs().streams.into_iter().map(|need| need.name);
    main.into_iter().chain(needs).map(|name| SetName::new(&name, run.id.ratio)).collect()
}

/// The data of every point and seed.
fn draw(
    experiment: &Experiment,
    graph: &Graph,
    base: &Base,
    access: &Arc<Access>,
    sources: &mut BTreeMap<String, Box<dyn DataSource>>,
) -> Result<BTreeMap<(String, u64), Drawn>> {
    let mut wanted: BTreeMap<(String, u64), (usize, BTreeSet<SetName>)> = BTreeMap::new();
    for run in &graph.runs {
        let recipe = &experiment.points[run.point].recipe;
        let key = (data_key(recipe), run.id.seed);
        let (_, sets) = wanted.entry(key).or_insert_with(|| (run.point, BTreeSet::new()));
        let has = |name: &SetName| recipe.data.config.has(vxf_data::Purpose::Stream, name.name());
        sets.extend(wanted_sets(run).into_iter().filter(has));
    }
    let mut drawn = BTreeMap::new();
    for ((key, seed), (point, sets)) in wanted {
        let recipe = &experiment.points[point].recipe;
        if !sources.contains_key(&key) {
            let ratios = recipe.settings.harmful_ratios.clone();
            let context = DataContext { ratios, locate: access.clone() };
            sources.insert(key.clone(), recipe.data.config.open(&context)?);
        }
        let data = SeedData::draw(&*sources[&key], recipe, base, seed, &sets)?;
        let wanted = metrics::wanted(recipe, &data);
        drawn.insert((key, seed), Drawn { data, wanted });
    }
    Ok(drawn)
}
