//! `vxf task`: does one run of an experiment, for programs that distribute work.

use std::io::{Read, stdin};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args as Group;
use serde_json::json;
use vxf_run::store::finished;
use vxf_run::{Control, Every, Prepared, Run, Task};

use crate::args::{EXIT_CODES, HubOptions};
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json, tell};
use crate::progress::{Reporter, access};
use crate::signals;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct TaskArgs {
    /// The experiment, made by `vxf run` or `vxf run --prepare`.
    pub(crate) experiment: PathBuf,
    /// The digest of the run, or its beginning, as `vxf runs EXPERIMENT --pending` prints it.
    pub(crate) digest: String,
    /// How often to save a checkpoint: every N steps (200) or after a time (90s, 10m, 2h).
    #[arg(long, value_name = "STEPS|TIME", default_value = "10m")]
    pub(crate) checkpoint_every: Every,
    /// Number of threads [default: the recipe's, else all cores]; figures do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) threads: Option<u64>,
    /// Save and stop when standard input closes, so that a task does not outlive what started it.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &TaskArgs) -> Result<(), CommandError> {
    let asked = signals::watched()?;
    if args.stop_on_eof {
        stop_on_eof(asked.clone());
    }
    let root = Run::root_of(&args.experiment)?;
    let mut prepared = Prepared::new(finished::experiment(&root)?, access(args.finding.offline)?)?;
    if let Some(threads) = args.threads.and_then(|threads| usize::try_from(threads).ok()) {
        prepared.set_threads(threads);
    }
    let runs = prepared.find(&args.digest)?;
    let control = Control::new(args.checkpoint_every, &asked);
    let Task { carried_out, failures } =
        prepared.task(&root, &runs, control, &Reporter::new(asked.clone()))?;
    let names: Vec<_> = carried_out.iter().map(|id| id.path().display().to_string()).collect();
    if args.json {
        print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "experiment": root,
            "done": names,
            "failed": failures,
        }))?;
    } else if names.is_empty() {
        tell("done already");
    } else {
        print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(CommandError::metrics(&failures).hint("the same command measures again")),
    }
}

/// Sets `asked` when standard input ends.
fn stop_on_eof(asked: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let (mut input, mut buffer) = (stdin().lock(), [0; 64]);
        // Anything but bytes is an end: whoever held the other side is gone.
        while input.read(&mut buffer).is_ok_and(|count| count > 0) {}
        asked.store(true, Ordering::Relaxed);
    });
}
