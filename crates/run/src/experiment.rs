//! Runs an experiment: every cell that its directory does not hold yet.
//!
//! Work is spread over threads by cells. It comes in chains: one way to align under one seed, then all
//! user stages that start from it, which whoever is free takes up. No figure depends on how many threads
//! there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use vxf_core::engine::Recompute;
use vxf_data::DataReport;

use crate::access::Access;
use crate::chain::{Attack, Chain};
use crate::control::Control;
use crate::dataset::{Corpus, Judges, SeedData};
use crate::directory::Directory;
use crate::failures::{Failure, Failures};
use crate::manifest::{Manifest, cores, now};
use crate::model::Base;
use crate::plan::{CellId, Plan};
use crate::progress::Progress;
use crate::queue::Queue;
use crate::recipe::Recipe;
use crate::record::{Record, Row};
use crate::settings::Keep;
use crate::{Error, Result, check, cost, device, finished, finished::Run, measure, report};

/// A finished experiment.
#[derive(Debug)]
pub struct Experiment {
    /// What it consisted of.
    pub plan: Plan,
    /// Its directory.
    pub directory: Directory,
    /// The records of all its cells.
    pub records: Vec<Record>,
    /// The metrics that failed; calling it again tries them again.
    pub failures: Vec<Failure>,
    /// Whether nothing was left to do.
    pub was_finished: bool,
    /// Whether its model is the one in this program.
    pub embedded: bool,
}

/// An experiment whose model, data and plan are known to be sound, before anything is written.
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// The plan.
    pub plan: Plan,
    /// The model.
    pub base: Base,
    /// The data of every seed, in the plan's order.
    pub data: Vec<SeedData>,
    /// For every seed the metrics, each with a digest of what its figures depend on.
    pub(crate) wanted: Vec<BTreeMap<String, String>>,
    /// The judges.
    pub judges: Judges,
    /// The run that the user's stage starts from.
    pub source: Option<PathBuf>,
    /// The manifest as it would be written now.
    pub manifest: Manifest,
    /// How models and data are found.
    pub access: Access,
    threads: usize,
}

impl Prepared {
    /// Opens the model and draws the data; writes nothing.
    ///
    /// # Errors
    /// When the model, its tokenizer, or the data cannot be used.
    pub fn new(recipe: Recipe, access: Access) -> Result<Self> {
        let mut plan = Plan::of(&recipe)?;
        let (mut source, mut source_digest) = (None, None);
        if !recipe.settings.from.is_empty() {
            let run = Run::aligned(Path::new(&recipe.settings.from))?;
            source_digest = run.weights_digest()?;
            plan.alignments[0].label = run.record.label;
            access.examine(&run.place);
            source = Some(run.place);
        }
        check::parts(&recipe, &plan)?;
        let base = Base::open(&recipe, &access)?;
        check::model(&recipe, &plan, &base.outline)?;
        let mut data = Vec::new();
        let mut corpus = Corpus::default();
        for (index, &seed) in plan.seeds.iter().enumerate() {
            if index == 0 || !Corpus::is_fixed(&recipe) {
                corpus = Corpus::read(&recipe, &access, seed)?;
            }
            data.push((SeedData::draw(&recipe, &base, &corpus, seed)?, corpus.clone()));
        }
        let threads = match recipe.settings.threads {
            0 => cores(),
            given => given,
        };
        let mut manifest = Manifest::begin(&recipe, &base, threads)?;
        for (seed, (data, corpus)) in plan.seeds.iter().zip(&data) {
            manifest.data.insert(seed.to_string(), data.digests(&plan.ratios));
            if manifest.report.is_none() {
                manifest.report = report::of(&recipe, corpus, data, *seed)?;
            }
        }
        manifest.source = source_digest;
        manifest.commits = access.commits();
        manifest.warnings = access.warnings();
        let data: Vec<_> = data.into_iter().map(|(data, _)| data).collect();
        // A judge that is not there is better known now than after hours of training.
        let judges = Judges::build(&recipe, &base, &access)?;
        let wanted = data.iter().map(|data| measure::wanted(&recipe, data)).collect();
        Ok(Self { recipe, plan, base, data, wanted, judges, source, manifest, access, threads })
    }

    /// Whether `cell` is trained and measured by all metrics.
    fn is_done(&self, directory: &Directory, cell: &CellId) -> bool {
        let seed = self.plan.seeds.iter().position(|seed| *seed == cell.seed);
        let wanted = seed.and_then(|seed| self.wanted.get(seed));
        directory.holds(cell) && wanted.is_some_and(|wanted| directory.has_measured(cell, wanted))
    }

    /// The report on the files that were read.
    pub fn report(&self) -> Option<&DataReport> {
        self.manifest.report.as_ref()
    }

    /// How many optimiser steps the stages of a chain take: aligning, and one user stage.
    pub fn steps(&self, seed: usize, ratio: usize) -> (u64, u64) {
        let data = &self.data[seed];
        let user = data.user.get(ratio).map_or(0, |set| set.examples.len());
        (
            self.recipe.alignment.steps(data.alignment.examples.len()),
            self.recipe.fine_tuning.steps(user),
        )
    }

    /// Computes what `output`, or the default directory, does not hold yet.
    ///
    /// # Errors
    /// When the directory cannot be used, or a cell cannot be trained; cells that are done stay, and
    /// so do the checkpoints of those that are not. [`Error::Interrupted`] when `control` asked for
    /// it. A metric that fails is no error, but one of the experiment's `failures`.
    pub fn run(
        mut self,
        output: Option<&Path>,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Experiment> {
        let root = output
            .map_or_else(|| Directory::default_path(&self.recipe, &self.manifest), Path::to_owned);
        let fitting = self.recompute()?;
        self.base.prepare()?;
        let directory = Directory::open(&root, &self.recipe, &self.manifest, control, progress)?;
        let recompute = match self.recipe.settings.recompute {
            Keep::Auto if directory.has_begun() => finished::recipe(&root)?.settings.recompute,
            _ => fitting.into(),
        };
        self.recipe.settings.recompute = recompute;
        let recompute = recompute.chosen().unwrap_or(fitting);
        directory.tidy(&self.plan, |cell| self.is_done(&directory, cell))?;
        let missing = self.plan.cells().iter().any(|cell| !self.is_done(&directory, cell));
        let was_finished =
            directory.has_begun() && !missing && directory.manifest()?.finished.is_some();
        match directory.has_begun() {
            false => directory.begin(&self.recipe, &self.manifest)?,
            true if missing => {
                let mut manifest = directory.manifest()?;
                if let Some(warning) = manifest.resume(&self.manifest) {
                    progress.note(&format!("warning: {} {warning}", root.display()));
                }
                directory.write_manifest(&manifest)?;
            }
            true => {}
        }
        directory.write_recipe(&self.recipe)?;
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
            directory.tidy(&self.plan, |_| true)?;
        }
        let failures = failures.into_all();
        let mut manifest = directory.manifest()?;
        if manifest.finished.is_none() && failures.is_empty() {
            manifest.finished = Some(now());
            directory.write_manifest(&manifest)?;
        }
        let mut records = directory.records(&self.plan)?;
        // Figures of metrics that an earlier call asked for stay in their files.
        let asked = |row: &Row| self.recipe.metrics.iter().any(|metric| metric.name == row.metric);
        records.iter_mut().for_each(|record| record.measurements.retain(asked));
        let Self { plan, base, .. } = self;
        let embedded = base.embedded();
        Ok(Experiment { plan, directory, records, failures, was_finished, embedded })
    }

    fn report_truncation(&self, progress: &dyn Progress) {
        for (seed, data) in self.plan.seeds.iter().zip(&self.data) {
            let sets = data.user.iter().map(|set| ("user", set));
            for (name, set) in [("alignment", &data.alignment)].into_iter().chain(sets) {
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
        let longest = self.data.iter().map(|data| cost::longest(&self.recipe, Some(data))).max();
        let at_once = self.threads.min(self.cells_at_once());
        let device = self.base.device();
        cost::recompute(&self.recipe, &self.base.outline, longest.unwrap_or(0), at_once, device)
    }

    /// How many cells may be under way side by side. A model of a user's own is held once; the embedded
    /// one costs nothing.
    fn cells_at_once(&self) -> usize {
        if self.base.embedded() { self.plan.cells().len().max(1) } else { 1 }
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
        let chains: Vec<_> = self
            .plan
            .chains()
            .into_iter()
            .map(|(alignment, seed)| {
                let steer = (recompute, control, failures);
                Chain::new(self, directory, progress, alignment, seed, steer)
            })
            .filter(Chain::is_incomplete)
            .collect();
        let left = chains.iter().map(Chain::cells_left).sum::<usize>();
        let steps = chains.iter().map(Chain::steps_left).sum();
        if steps == 0 {
            progress.note(&format!("{left} runs are trained and not measured by all metrics yet"));
        }
        progress.begin(steps);
        let workers = self.threads.min(self.cells_at_once()).min(left).max(1);
        // More threads than cells: the rest helps inside the tensor operations.
        let inner = (self.threads / workers).max(1);
        let queue = Queue::new(chains.iter().map(Job::Align));
        let errors = Mutex::new(Vec::new());
        let worker = || -> Result<()> {
            let _panicked = Panicked(&failed);
            device::enter(self.base.device())?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(inner).build();
            let pool = pool.map_err(|error| Error::Threads(error.to_string()))?;
            while let Some(turn) = queue.next().filter(|_| !control.stops()) {
                let job = || device::enter(self.base.device()).and_then(|()| turn.job.run());
                match pool.install(job) {
                    Ok(further) => turn.done(further),
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
                    Ok(Err(error)) => keep(&errors, error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        let errors = errors.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The one that stopped the others is the one to tell.
        let told = errors.into_iter().min_by_key(|error| matches!(error, Error::Stopped));
        match told {
            Some(error) => Err(error),
            // Without a stop, what is incomplete has metrics that failed.
            None if control.stops() && chains.iter().any(Chain::is_incomplete) => {
                Err(Error::Stopped)
            }
            None => Ok(()),
        }
    }
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

/// What one thread does at a time.
enum Job<'a> {
    Align(&'a Chain<'a>),
    Attack(Attack<'a>),
}

impl<'a> Job<'a> {
    /// Does it; returns what can be done then.
    fn run(&self) -> Result<Vec<Job<'a>>> {
        match self {
            Self::Align(chain) => Ok(chain.align_first()?.into_iter().map(Job::Attack).collect()),
            Self::Attack(attack) => attack.run().map(|()| Vec::new()),
        }
    }
}

fn keep(errors: &Mutex<Vec<Error>>, error: Error) {
    if let Ok(mut errors) = errors.lock() {
        errors.push(error);
    }
}
