//! `vxf verify PATH`: whether stored records say what the stored files say.

use std::path::PathBuf;

use clap::Args as Group;
use serde_json::json;
use vxf_run::verify::{Problem, Verified, verify};

use crate::args::{EXIT_CODES, HubOptions};
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};
use crate::progress::access;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct VerifyArgs {
    /// An experiment, or a run of it.
    pub(crate) path: PathBuf,
    /// Check only the records: open no model and measure nothing again.
    #[arg(long)]
    pub(crate) records_only: bool,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<(), CommandError> {
    let verified = verify(&args.path, args.records_only, access(args.finding.offline)?)?;
    let Verified { problems, .. } = &verified;
    match args.json {
        true => print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "path": args.path,
            "holds": problems.is_empty(),
            "verified": verified,
        }))?,
        false => print(&text(&verified))?,
    }
    match problems.len() {
        0 => Ok(()),
        count => Err(CommandError::failed(format!(
            "statements of the records that do not hold: {count}"
        ))),
    }
}

fn text(verified: &Verified) -> String {
    let Verified { runs, missing, figures, counted, measured, identities, problems, unchecked } =
        verified;
    let mut text = format!("{runs} runs are done");
    if *missing > 0 {
        text += &format!(", {missing} of the recipe are not");
    }
    text += &format!(
        "\n\n  {figures} figures in the records\n  {counted} rates counted again from single answers\n  \
         {measured} figures measured again from stored answers and weights\n  {identities} identities \
         derived again from model, data and settings\n"
    );
    for (title, lines) in [
        ("Does not hold", problems.iter().map(shown).collect::<Vec<_>>()),
        ("Not checked", unchecked.clone()),
    ] {
        if !lines.is_empty() {
            text += &format!("\n{title}\n\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
        }
    }
    if problems.is_empty() {
        text += "\nEverything that was checked holds\n";
    }
    text
}

fn shown(Problem { run, problem }: &Problem) -> String {
    format!("{run}: {problem}")
}
