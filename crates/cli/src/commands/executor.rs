//! `--executor`: runs distributed over processes on this machine, Slurm or HyperQueue.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args as Group, ValueEnum};
use serde_json::json;
use vxf_run::{Control, Pending, Prepared, Progress};
use vxf_sweep::workers::{Local, Resources, Slot, TaskList, hyperqueue, slurm, typed};

use crate::args::{HubOptions, RunOptions};
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{bytes, print, print_json};

/// How the runs of an experiment are distributed.
#[derive(Debug, Default, Group)]
pub(crate) struct ExecutorOptions {
    /// Distribute the runs: over worker processes on this machine (local), as job arrays (slurm), or as
    /// tasks (hq, HyperQueue) [default: threads of this process]. Figures do not depend on it.
    #[arg(long, value_name = "NAME")]
    pub(crate) executor: Option<Executor>,
    /// Most runs at once: worker processes, or running tasks of a Slurm array [default: local takes as
    /// many as there are cores (with GPUs: one each) and as fit into the memory; slurm has no limit].
    #[arg(long, value_name = "N", requires = "executor",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: Option<u16>,
    /// Write the job script and print the commands that submit it; submit nothing.
    #[arg(long, requires = "executor")]
    pub(crate) dry_run: bool,
    /// A further option for sbatch or hq submit, such as --time=2:00:00; repeatable.
    #[arg(long, value_name = "OPTION", requires = "executor", allow_hyphen_values = true)]
    pub(crate) submit_option: Vec<String>,
}

/// An executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Executor {
    /// Worker processes on this machine.
    Local,
    /// Job arrays of Slurm.
    Slurm,
    /// Tasks of HyperQueue.
    Hq,
}

/// Where the runs are executed.
pub(crate) enum Distributed {
    /// By this command; what is missing yet is executed by its own threads, in this directory.
    Here(Option<PathBuf>),
    /// By jobs.
    Submitted(Submitted),
}

/// Jobs that were submitted, or commands that would submit them.
pub(crate) struct Submitted {
    root: PathBuf,
    runs: usize,
    script: PathBuf,
    commands: Vec<String>,
    /// None of a dry run.
    jobs: Option<Vec<String>>,
}

impl ExecutorOptions {
    /// Checks that no option is without effect.
    pub(crate) fn check(&self, course: &RunOptions) -> Result<(), CommandError> {
        let Some(executor) = self.executor else { return Ok(()) };
        let wrong = |text: &str| Err(CommandError::usage(text));
        if executor == Executor::Local {
            if self.dry_run {
                return wrong("--dry-run: workers on this machine have no job script");
            }
            if !self.submit_option.is_empty() {
                return wrong("--submit-option: workers on this machine are not submitted");
            }
            return Ok(());
        }
        if executor == Executor::Hq && self.workers.is_some() {
            return Err(CommandError::usage("--workers: HyperQueue has no such limit")
                .hint("the CPUs of its workers decide how many tasks run at once"));
        }
        let flags = [
            ("--full", course.full),
            ("--strict", course.strict),
            ("--log-samples", course.log_samples),
            ("--track", course.track.any()),
        ];
        match flags.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(CommandError::usage(format!(
                "{flag}: no table is printed when jobs are submitted"
            ))
            .hint(format!("`vxf resume EXPERIMENT {flag}` prints it when they have ended"))),
            None => Ok(()),
        }
    }

    /// Distributes the missing runs of the experiment in `root`, or its default directory.
    pub(crate) fn distribute(
        &self,
        prepared: &mut Prepared,
        root: Option<&Path>,
        finding: &HubOptions,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<Distributed, CommandError> {
        let Some(executor) = self.executor else {
            return Ok(Distributed::Here(root.map(Path::to_owned)));
        };
        let asked = self.workers.map(usize::from);
        let threads = prepared.experiment.recipe().settings.threads;
        let resources = match executor {
            Executor::Local => {
                prepared.set_workers(asked.unwrap_or(1));
                let resources = Resources::of(prepared, prepared.graph.runs.len(), asked)?;
                prepared.set_threads(resources.threads);
                Some(resources)
            }
            // Jobs ask for the cores that they use.
            Executor::Slurm | Executor::Hq => {
                prepared.set_threads(threads.max(1));
                None
            }
        };
        let root = prepared.begin(root, control, progress)?;
        let pending = prepared.pending(&root, control, progress)?;
        if pending.is_empty() {
            return Ok(Distributed::Here(Some(root)));
        }
        let program = std::env::current_exe();
        let program = program.map_err(|error| {
            CommandError::failed(format!("the path of this program is unknown: {error}"))
        })?;
        let task = Task { program, root: &root, control, offline: finding.offline };
        if let Some(resources) = resources {
            if resources.exceed_memory() {
                progress.note(&format!(
                    "warning: {} workers need about {}, and {} are free: give fewer `--workers`",
                    resources.workers,
                    bytes(resources.bytes.saturating_mul(resources.workers as u64)),
                    bytes(resources.free.unwrap_or_default()),
                ));
            }
            let command = |pending: &Pending, slot: Slot| {
                let mut command = task.command(resources.threads, Some(pending), true);
                if resources.gpus > 0 {
                    command.env(VISIBLE, visible(slot.0 % resources.gpus));
                }
                command
            };
            let local = Local { workers: resources.workers, command: &command };
            local.execute(prepared, &root, control, progress)?;
            return Ok(Distributed::Here(Some(root)));
        }
        let list = TaskList::write(&root, &pending)?;
        let words = |command: &Command| {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let threads = threads.max(1);
        let command = words(&task.command(threads, None, false));
        let submitted = match executor {
            Executor::Hq => self.hq(command, threads, &list)?,
            _ => self.slurm(command, threads, prepared.bytes()?, &list, progress)?,
        };
        Ok(Distributed::Submitted(Submitted { root, runs: pending.len(), ..submitted }))
    }

    fn slurm(
        &self,
        command: Vec<String>,
        threads: usize,
        bytes: u64,
        list: &TaskList,
        progress: &dyn Progress,
    ) -> Result<Submitted, CommandError> {
        let (at_once, options) = (self.workers.map(usize::from), self.submit_option.clone());
        let job = slurm::Job { command, threads, bytes, at_once, options };
        let script = list.script("sbatch", &job.script(list))?;
        let limit = slurm::array_limit().unwrap_or_else(|| {
            let usual = slurm::USUAL_LIMIT;
            progress.note(&format!(
                "`scontrol show config` does not answer; arrays have up to {usual} tasks"
            ));
            usual
        });
        let mut commands = Vec::new();
        let dry = self.dry_run;
        let mut submit = |words: &[String]| {
            let (typed, number) = (typed(words), commands.len() + 1);
            commands.push(match dry {
                true => format!("JOB{number}=$({})", typed.replace("@JOB", "$JOB")),
                false => typed,
            });
            match dry {
                true => Ok(format!("@JOB{number}")),
                false => slurm::command(words),
            }
        };
        let jobs = job.submit(&script, list, limit, &mut submit)?;
        Ok(Submitted::of(script, commands, (!dry).then_some(jobs)))
    }

    fn hq(
        &self,
        command: Vec<String>,
        threads: usize,
        list: &TaskList,
    ) -> Result<Submitted, CommandError> {
        let job = hyperqueue::Job { command, threads, options: self.submit_option.clone() };
        let script = list.script("sh", &job.script(list))?;
        let words = job.submission(&script, list);
        let jobs = match self.dry_run {
            true => None,
            false => Some(vec![slurm::command(&words)?.trim().to_owned()]),
        };
        Ok(Submitted::of(script, vec![typed(&words)], jobs))
    }
}

/// The variable by which CUDA is told which GPUs there are.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The name of the GPU with this number among those that this process sees.
fn visible(number: usize) -> String {
    let own = std::env::var(VISIBLE).ok();
    let named = own.as_deref().and_then(|all| all.split(',').nth(number));
    named.map_or(number.to_string(), |name| name.trim().to_owned())
}

/// The command that does one run.
struct Task<'a> {
    program: PathBuf,
    root: &'a Path,
    control: Control<'a>,
    offline: bool,
}

impl Task<'_> {
    /// The command; without a run, the digest is to be appended.
    fn command(&self, threads: usize, pending: Option<&Pending>, stop_on_eof: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("task").arg(format!("--threads={threads}"));
        command.arg(format!("--checkpoint-every={}", self.control.every));
        if self.offline {
            command.arg("--offline");
        }
        if stop_on_eof {
            command.arg("--stop-on-eof");
        }
        // Jobs may start in another directory.
        let root = self.root.canonicalize();
        command.arg(root.as_deref().unwrap_or(self.root));
        command.args(pending.map(|pending| &pending.digest));
        command
    }
}

impl Submitted {
    fn of(script: PathBuf, commands: Vec<String>, jobs: Option<Vec<String>>) -> Self {
        Self { root: PathBuf::new(), runs: 0, script, commands, jobs }
    }

    /// Prints what was submitted.
    pub(crate) fn show(&self, as_json: bool) -> Result<(), CommandError> {
        let Self { root, runs, script, commands, jobs } = self;
        if as_json {
            return print_json(&json!({
                "schema_version": SCHEMA_VERSION,
                "experiment": root,
                "pending": runs,
                "script": script,
                "commands": commands,
                "jobs": jobs,
            }));
        }
        let (root, script) = (root.display(), script.display());
        let next = format!(
            "`vxf runs {root}` shows their state; when they have ended, `vxf resume {root}` prints the table"
        );
        print(&match jobs {
            Some(jobs) => {
                format!("{runs} runs submitted, jobs {}, by {script}\n{next}\n", jobs.join(", "))
            }
            None => {
                format!(
                    "{runs} runs to submit, by {script}\n\n  {}\n\n{next}\n",
                    commands.join("\n  ")
                )
            }
        })
    }
}
