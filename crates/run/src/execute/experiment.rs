//! Runs an experiment: every run that its directory does not hold yet.
//!
//! Threads take runs from one queue; a run's children are queued when it is done. No figure depends on
//! how many threads there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use vxf_core::engine::Recompute;
use vxf_recipe::settings::Keep;
use vxf_report::samples::Overlap;
use vxf_report::{Failure, Failures, Layout, Record, Row, RunId};

use super::control::Control;
use super::prepared::Prepared;
use super::progress::Progress;
use super::queue::Queue;
use super::run::Executor;
use super::start::SharedStart;
use crate::plan::cost;
use crate::store::manifest::now;
use crate::store::{Directory, finished, prune};
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
    /// How many prompts of each set are in a training set too.
    pub overlaps: BTreeMap<String, Overlap>,
}

impl Prepared {
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
        let overlaps = self.overlaps();
        let layout = self.graph.layout;
        Ok(Finished { layout, directory, records, failures, was_finished, overlaps })
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
