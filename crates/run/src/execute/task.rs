//! Executes one run of an experiment, and those that it starts from. Several processes may do so at once.

use std::path::Path;

use vxf_report::{Failure, Failures, RunId};

use super::control::Control;
use super::prepared::Prepared;
use super::progress::Progress;
use super::run::Executor;
use super::start::SharedStart;
use crate::store::Directory;
use crate::{Error, Result};
use vxf_access::device;

/// A lock in an experiment's directory for its manifest.
const MANIFEST: &str = "manifest";

/// What a task did.
#[derive(Debug, Default)]
pub struct Task {
    /// The runs that it trained or measured, parents first; empty if all were done.
    pub carried_out: Vec<RunId>,
    /// The metrics that failed; another call retries them.
    pub failures: Vec<Failure>,
}

/// A run that is not trained, or not measured with all metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its index in the graph.
    pub run: usize,
    /// The digest of what decides its weights.
    pub digest: String,
    /// Its path within the experiment.
    pub path: String,
    /// Its position in the pipeline, from 0.
    pub depth: usize,
}

impl Pending {
    /// Digest and path on a line, as lists of tasks have them.
    pub fn line(&self) -> String {
        format!("{} {}\n", self.digest, self.path)
    }
}

impl Prepared {
    /// The runs that the experiment in `root` lacks: first those of all first stages, then those of all
    /// second stages, so that parents come first.
    ///
    /// # Errors
    /// When `root` does not hold this experiment.
    pub fn pending(
        &self,
        root: &Path,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Pending>> {
        Ok(self.lacking(&self.directory(root, control, progress)?))
    }

    /// The directory `root` of this experiment, which other processes may use too.
    ///
    /// # Errors
    /// When `root` does not hold this experiment.
    pub fn directory(
        &self,
        root: &Path,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Directory> {
        Directory::share(root, &self.experiment, &self.manifest, control, progress)
    }

    /// As [`Prepared::pending`], of an open directory.
    pub fn lacking(&self, directory: &Directory) -> Vec<Pending> {
        let runs = self.graph.runs.iter().enumerate();
        let lacking = runs.filter(|(run, _)| !self.is_done(directory, *run));
        let pending = |(run, spec): (usize, &crate::plan::RunSpec)| Pending {
            run,
            digest: self.digests[run].clone(),
            path: spec.id.path().display().to_string(),
            depth: spec.depth,
        };
        let mut all: Vec<_> = lacking.map(pending).collect();
        all.sort_by_key(|pending| (pending.depth, pending.run));
        all
    }

    /// The runs whose digest begins with `digest`: one, or several that are the same.
    ///
    /// # Errors
    /// When there is none, or they differ.
    pub fn find(&self, digest: &str) -> Result<Vec<usize>> {
        let fail = |problem: String| Err(Error::NoTask { digest: digest.to_owned(), problem });
        let begins = |run: &usize| !digest.is_empty() && self.digests[*run].starts_with(digest);
        let found: Vec<_> = (0..self.digests.len()).filter(begins).collect();
        let Some(first) = found.first() else {
            return fail("no run of the experiment has a digest that begins so".into());
        };
        match found.iter().all(|run| self.digests[*run] == self.digests[*first]) {
            true => Ok(found),
            false => fail(format!("{} runs have a digest that begins so", found.len())),
        }
    }

    /// Uses this number of threads for tensor operations and runs.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = threads.max(1);
        self.manifest.threads = self.threads;
    }

    /// Leaves room for this number of processes on this machine.
    pub fn set_workers(&mut self, workers: usize) {
        self.workers = workers.max(1);
    }

    /// Executes `runs` of the experiment that has begun in `root`, and first the runs that they start from,
    /// where these are missing. Runs that are done are left alone. Each run is locked while it is executed:
    /// if another process does it already, this one waits, and finds it done.
    ///
    /// # Errors
    /// When the directory does not hold this experiment or a run cannot be trained; checkpoints are kept.
    /// [`Error::Interrupted`] when `control` asked to stop. A failed metric is not an error; it is listed
    /// in `failures`.
    pub fn task(
        &self,
        root: &Path,
        runs: &[usize],
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Task> {
        let directory = self.directory(root, control, progress)?;
        let mut wanted: Vec<usize> = Vec::new();
        for run in runs.iter().flat_map(|run| self.graph.lineage(*run)) {
            if !wanted.contains(&run) {
                wanted.push(run);
            }
        }
        let failures = Failures::default();
        // The experiment was begun with a choice, so that all its runs have the same.
        let recompute = self.experiment.recipe().settings.recompute.chosen();
        let recompute = recompute.map_or_else(|| self.recompute(), Ok)?;
        let executor = Executor {
            prepared: self,
            directory: &directory,
            progress,
            recompute,
            control,
            failures: &failures,
        };
        let done = wanted.iter().all(|run| self.is_done(&directory, *run));
        let mut task = Task::default();
        if !done {
            self.note_conditions(&directory, control, progress)?;
            let carried_out = self.carry_out(&executor, &wanted);
            progress.end();
            task.carried_out = carried_out.map_err(|error| match error {
                Error::Stopped => Error::Interrupted { path: root.to_owned() },
                error => error,
            })?;
        }
        task.failures = failures.into_all();
        Ok(task)
    }

    fn carry_out(&self, executor: &Executor<'_>, wanted: &[usize]) -> Result<Vec<RunId>> {
        let Executor { directory, progress, control, .. } = *executor;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        let pool = pool.map_err(|error| Error::Threads(error.to_string()))?;
        self.base.prepare()?;
        let missing = wanted.iter().filter(|run| !executor.is_done(**run));
        progress.begin(missing.map(|run| executor.steps_left(*run)).sum());
        let mut carried_out = Vec::new();
        for run in wanted {
            if executor.is_done(*run) {
                continue;
            }
            let _lock = directory.claim(&self.digests[*run], control, progress)?;
            // Another task may have done it while this one waited.
            if executor.is_done(*run) {
                continue;
            }
            pool.install(|| {
                device::enter(self.base.device())?;
                executor.carry_out(*run, &SharedStart::default())
            })?;
            carried_out.push(self.graph.runs[*run].id.clone());
        }
        Ok(carried_out)
    }

    /// Notes in the manifest that a task has other conditions than the processes before it.
    fn note_conditions(
        &self,
        directory: &Directory,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let _lock = directory.claim(MANIFEST, control, progress)?;
        let mut manifest = directory.manifest()?;
        if let Some(warning) = manifest.join(&self.manifest) {
            progress.note(&format!("warning: {} {warning}", directory.root().display()));
            directory.write_manifest(&manifest)?;
        }
        Ok(())
    }
}
