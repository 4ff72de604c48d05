//! `vxf export RUN`: a run's model for other programs.

use std::path::PathBuf;

use clap::Args as Group;
use serde_json::json;
use vxf_access::Base;
use vxf_run::Run;
use vxf_run::store::export;

use crate::args::{EXIT_CODES, HubOptions};
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};
use crate::progress::access;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES, group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ExportArgs {
    /// A run, or an experiment with a single candidate.
    pub(crate) run: PathBuf,
    /// Export a model directory with all adapters merged, in the type in which the base is stored.
    #[arg(long, group = "what")]
    pub(crate) merged: bool,
    /// Export the adapters in PEFT's layout; two stages give two adapters, to be merged in order.
    #[arg(long, group = "what")]
    pub(crate) adapter: bool,
    /// Output directory; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &ExportArgs) -> Result<(), CommandError> {
    let run = Run::open(&args.run)?;
    let base = Base::open(run.experiment()?.recipe(), &access(args.finding.offline)?)?;
    let place = run.place.clone();
    let to = args.output_dir.as_path();
    let written = match args.adapter {
        true => export::adapters(run, &base, to)?,
        false => {
            export::model(run, &base, to)?;
            vec![to.to_owned()]
        }
    };
    let written: Vec<_> = written.iter().map(|place| place.display().to_string()).collect();
    if args.json {
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "run": place,
            "base": base.name,
            "written": written,
        }));
    }
    let what = if args.adapter { "adapter" } else { "merged model" };
    let lines: String = written.iter().map(|place| format!("{what} in {place}\n")).collect();
    print(&lines)
}
