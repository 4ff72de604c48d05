//! `vxf run`: executes an experiment and prints its comparison.

use std::path::{Path, PathBuf};

use clap::Args as Group;
use vxf_recipe::Experiment;
use vxf_run::measure::health;
use vxf_run::store::finished;
use vxf_run::{Control, Every, Prepared, Run};

use crate::args::{EXIT_CODES, HubOptions, RecipeOptions, RunOptions};
use crate::commands::executor::{Distributed, ExecutorOptions};
use crate::commands::findings::{Findings, is_open};
use crate::commands::layers;
use crate::commands::report::as_typed;
use crate::error::CommandError;
use crate::output::{print, print_json, print_report, tell};
use crate::progress::{Reporter, access};
use crate::signals;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunArgs {
    /// A recipe. Flags override it, and `--set` overrides both.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: RecipeOptions,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Output directory [default: runs/<defense>-<task>-<digest>]; never overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// An experiment, or a directory of them, whose trained runs serve this one where they are the same (equal
    /// digests); repeatable. They are copied, and measured by the metrics that they lack.
    #[arg(long, value_name = "DIR")]
    pub(crate) reuse: Vec<PathBuf>,
    /// Only write the directory of the experiment and print its path; `vxf task` then does its runs.
    #[arg(long, conflicts_with_all = ["executor", "log_samples", "full", "strict", "json", "track"])]
    pub(crate) prepare: bool,
    #[command(flatten)]
    pub(crate) executor: ExecutorOptions,
    #[command(flatten)]
    pub(crate) course: RunOptions,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ResumeArgs {
    /// The experiment, or a run of it.
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    #[command(flatten)]
    pub(crate) executor: ExecutorOptions,
    #[command(flatten)]
    pub(crate) course: RunOptions,
}

pub(crate) fn run(args: &RunArgs) -> Result<(), CommandError> {
    args.executor.check(&args.course)?;
    let experiment = layers::recipe(args.recipe.as_deref(), &args.choices)?;
    let root = args.output_dir.as_deref();
    match args.prepare {
        true => prepare(experiment, &args.finding, root, &args.reuse),
        false => go(experiment, &args.finding, root, &args.reuse, &args.executor, &args.course),
    }
}

pub(crate) fn resume(args: &ResumeArgs) -> Result<(), CommandError> {
    args.executor.check(&args.course)?;
    let root = Run::root_of(&args.run)?;
    let experiment = finished::experiment(&root)?;
    let root = as_typed(&args.run, &root);
    go(experiment, &args.finding, Some(root), &[], &args.executor, &args.course)
}

/// Writes the directory of an experiment and prints its path.
fn prepare(
    experiment: Experiment,
    finding: &HubOptions,
    root: Option<&Path>,
    reuse: &[PathBuf],
) -> Result<(), CommandError> {
    let asked = signals::watched()?;
    let mut prepared = Prepared::new(experiment, access(finding.offline)?)?;
    prepared.reuse(reuse)?;
    let control = Control::new(Every::default(), &asked);
    let root = prepared.begin(root, control, &Reporter::new(asked.clone()))?;
    print(&format!("{}\n", root.display()))
}

/// Executes what is missing of an experiment and prints the results.
fn go(
    experiment: Experiment,
    finding: &HubOptions,
    root: Option<&Path>,
    reuse: &[PathBuf],
    executor: &ExecutorOptions,
    course: &RunOptions,
) -> Result<(), CommandError> {
    let asked = signals::watched()?;
    let mut prepared = Prepared::new(experiment.clone(), access(finding.offline)?)?;
    if let (true, Some(doubt)) = (course.strict, prepared.seen_attack()) {
        return Err(vxf_run::Error::InDoubt { doubt }.into());
    }
    course.track.check(finding)?;
    prepared.reuse(reuse)?;
    let control = Control::new(course.checkpoint_every, &asked);
    let reporter = Reporter::new(asked.clone());
    let root = match executor.distribute(&mut prepared, root, finding, control, &reporter)? {
        Distributed::Submitted(submitted) => return submitted.show(course.json),
        Distributed::Here(root) => root,
    };
    let root = match course.track.any() {
        true => Some(prepared.begin(root.as_deref(), control, &reporter)?),
        false => root,
    };
    let tracking = root.as_deref().map(|root| course.track.start(root)).transpose()?.flatten();
    let finished = prepared.run(root.as_deref(), control, &reporter)?;
    if let Some(tracking) = tracking {
        tracking.finish(finished.failures.is_empty());
    }
    let directory = &finished.directory;
    let shown = directory.root().display();
    if finished.was_finished {
        tell(&format!("{shown} is finished; this is its record"));
    }
    let findings = Findings {
        root: directory.root(),
        experiment: &experiment,
        layout: &finished.layout,
        records: &finished.records,
        failures: &finished.failures,
        overlaps: &finished.overlaps,
        full: course.full,
        open: is_open(&experiment, course.log_samples),
    };
    match course.json {
        true => print_json(&findings.value())?,
        false => print_report(&findings.parts(|run| directory.answers(run))?)?,
    }
    // Print the results first, then fail if the verdict says so.
    let failed = (!finished.failures.is_empty()).then(|| {
        let again = format!("`vxf resume {shown}` or the same command measures what is missing");
        CommandError::metrics(&finished.failures).hint(again)
    });
    match (health::verdict(&finished.layout, &finished.records, course.strict), failed) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(failed)) => Err(failed),
        (Err(doubtful), failed) => {
            if let Some(failed) = failed {
                tell(&failed.to_string());
            }
            Err(doubtful.into())
        }
    }
}
