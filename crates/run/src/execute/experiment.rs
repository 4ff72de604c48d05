//! Executes an experiment: all runs that its directory does not have yet.
//!
//! Worker threads take runs from one queue; when a run is done, its children are queued. Figures do not
//! depend on the number of threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use vxf_core::engine::Recompute;
use vxf_recipe::settings::Keep;
use vxf_report::samples::Overlap;
use vxf_report::{Failure, Failures, Layout, Record, RunId};

use super::control::Control;
use super::prepared::Prepared;
use super::progress::Progress;
use super::queue::Queue;
use super::run::Executor;
use super::start::SharedStart;
use crate::plan::cost;
use crate::store::manifest::now;
use crate::store::{Directory, finished, prune};
use crate::{Error, Result};
use vxf_access::device;

/// A finished experiment. It keeps the directory locked until it is dropped.
#[derive(Debug)]
pub struct Finished {
    /// Which runs are compared with each other.
    pub layout: Layout,
    /// Its directory.
    pub directory: Directory,
    /// The records of all its runs.
    pub records: Vec<Record>,
    /// The metrics that failed; executing the experiment again retries them.
    pub failures: Vec<Failure>,
    /// Whether the experiment was already complete.
    pub was_finished: bool,
    /// How many prompts of each set are in a training set too.
    pub overlaps: BTreeMap<String, Overlap>,
}

/// A directory in which the experiment has begun.
struct Opened {
    directory: Directory,
    recompute: Recompute,
    /// Whether some run is not trained and measured.
    missing: bool,
    /// Whether the experiment was complete already.
    was_finished: bool,
}

impl Prepared {
    /// Executes all missing runs in `output`, or in the default directory.
    ///
    /// # Errors
    /// When the directory cannot be used or a run cannot be trained; completed runs and checkpoints are
    /// kept. [`Error::Interrupted`] when `control` asked to stop. A failed metric is not an error; it is
    /// listed in `failures`.
    pub fn run(
        mut self,
        output: Option<&Path>,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Finished> {
        let Opened { directory, recompute, missing, was_finished } =
            self.open(output, control, progress)?;
        let root = directory.root().to_owned();
        let ids: Vec<&RunId> = self.graph.runs.iter().map(|run| &run.id).collect();
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
        let before = directory.manifest()?;
        let mut manifest = before.clone();
        // A report without the data needs them.
        manifest.overlaps = self.overlaps();
        if manifest.finished.is_none() && failures.is_empty() {
            manifest.finished = Some(now());
        }
        if manifest != before {
            directory.write_manifest(&manifest)?;
        }
        if failures.is_empty() {
            let keep = self.experiment.recipe().settings.keep;
            let freed =
                ids.iter().map(|id| prune::run(&directory.run(id), keep)).sum::<Result<u64>>()?;
            // With the last run it is expected; later it may be a surprise.
            if was_finished && freed > 0 {
                let mib = freed.div_ceil(1 << 20);
                progress.note(&format!("{mib} MiB of weights are removed, as `keep` says"));
            }
        }
        let mut records = directory.records(ids.iter().copied())?;
        finished::only_asked(&mut records, &self.experiment);
        let overlaps = manifest.overlaps;
        let layout = self.graph.layout;
        Ok(Finished { layout, directory, records, failures, was_finished, overlaps })
    }

    /// Begins the experiment in `output`, or in the default directory, without executing a run: tasks can
    /// then carry out its runs. Returns the directory, which is released.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn begin(
        &mut self,
        output: Option<&Path>,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        Ok(self.open(output, control, progress)?.directory.root().to_owned())
    }

    /// Opens the directory, begins the experiment in it or notes the resumption, and tidies it.
    fn open(
        &mut self,
        output: Option<&Path>,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Opened> {
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
        let mut missing = !self.all_done(&directory);
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
        if missing {
            self.take_over(&directory, progress)?;
            missing = !self.all_done(&directory);
        }
        directory.write_recipe(&self.experiment)?;
        Ok(Opened { directory, recompute, missing, was_finished })
    }

    /// What to keep for the backward pass, depending on the available memory.
    pub(crate) fn recompute(&self) -> Result<Recompute> {
        let sets = self.drawn.values().flat_map(|drawn| drawn.data.sets());
        let longest = sets.map(|(_, set)| set.longest()).max().unwrap_or(0);
        let at_once = self.threads.min(self.runs_at_once()).max(self.workers);
        let (recipe, device) = (self.experiment.recipe(), self.base.device());
        cost::recompute(recipe, &self.base.outline, longest, at_once, device)
    }

    /// How many runs may be executed at once. The memory for a user's model is planned once; the embedded
    /// model needs almost none.
    fn runs_at_once(&self) -> usize {
        if self.base.embedded() { self.graph.runs.len().max(1) } else { 1 }
    }

    /// Reports how much is left to do; returns the number of runs.
    fn announce(&self, executor: &Executor<'_>) -> usize {
        let progress = executor.progress;
        let left: Vec<_> =
            (0..self.graph.runs.len()).filter(|run| !executor.is_done(*run)).collect();
        let steps = left.iter().map(|run| executor.steps_left(*run)).sum();
        if steps == 0 {
            let left = left.len();
            progress.note(&format!("{left} runs are trained and not measured by all metrics yet"));
        }
        progress.answers(left.iter().map(|run| self.data(*run).answers()).sum());
        progress.begin(steps);
        left.len()
    }

    /// Executes the missing runs in worker threads.
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
        let left = self.announce(&executor);
        let workers = self.threads.min(self.runs_at_once()).min(left).max(1);
        // With more threads than runs, the others work inside the tensor operations.
        let inner = (self.threads / workers).max(1);
        let root = SharedStart::default();
        // Tested methods first, because they take longest.
        let first = self.graph.children(None).collect::<Vec<_>>().into_iter().rev();
        let queue = Queue::new(first.map(|run| Job { run, start: root.clone() }));
        drop(root);
        let worker = || -> Result<()> {
            let _panicked = Panicked(&failed);
            device::enter(self.base.device())?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(inner).build();
            let pool = pool.map_err(|error| Error::Threads(error.to_string()))?;
            while let Some(claimed) = queue.next().filter(|_| !control.stops()) {
                let Job { run, start } = &claimed.job;
                let job = || {
                    device::enter(self.base.device())?;
                    executor.carry_out(*run, start)
                };
                match pool.install(job) {
                    Ok(()) => {
                        let start = SharedStart::default();
                        let children = self.graph.children(Some(*run));
                        let job = |run| Job { run, start: start.clone() };
                        claimed.done(children.map(job).collect());
                    }
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        in_threads(workers, worker)?;
        // Without a stop, runs are incomplete only because metrics failed.
        match control.stops() && !self.all_done(directory) {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }
}

/// Runs `worker` in this number of threads.
fn in_threads(count: usize, worker: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let mut errors = Vec::new();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..count).map(|_| scope.spawn(&worker)).collect();
        for handle in handles {
            match handle.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    // An error in one thread stops the others: it is reported, and not that they were stopped.
    let cause = errors.into_iter().min_by_key(|error| matches!(error, Error::Stopped));
    cause.map_or(Ok(()), Err)
}

/// A run to execute, with the model that it starts from.
struct Job {
    run: usize,
    start: SharedStart,
}

/// Stops the other threads if this one panics.
struct Panicked<'a>(&'a AtomicBool);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
