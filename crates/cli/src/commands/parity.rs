//! `vxf parity`: replays recorded steps of the reference trainer and compares all numbers.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};
use serde_json::json;
use vxf_access::device::device;
use vxf_parity::{Bounds, Report};
use vxf_report::TextTable;

use crate::args::EXIT_CODES;
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ParityArgs {
    /// A directory of recordings: manifest.json and a directory for each model.
    pub(crate) directory: PathBuf,
    /// Computing device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
    /// Type of weights and activations; each type has its own tolerances.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = ParityType::F32)]
    pub(crate) dtype: ParityType,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The types with stated tolerances.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ParityType {
    F32,
    F64,
    Bf16,
}

pub(crate) fn run(args: &ParityArgs) -> Result<(), CommandError> {
    let bounds = match args.dtype {
        ParityType::F32 => Bounds::F32,
        ParityType::F64 => Bounds::F64,
        ParityType::Bf16 => Bounds::BF16,
    };
    let report = vxf_parity::compare(&args.directory, &device(&args.device)?, &bounds)?;
    if args.json {
        print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "passed": report.passed(),
            "compared": report.compared(),
            "dtype": bounds.dtype.as_str(),
            "report": report,
        }))?;
    } else {
        print(&text(&report))?;
    }
    if report.compared() == 0 {
        return Err(CommandError::failed("nothing was compared").hint(
            "unsupported families are listed above; `vxf list backbones` has the supported ones",
        ));
    }
    let broken: Vec<_> =
        report.quantities.iter().filter(|(_, quantity)| !quantity.holds()).collect();
    match broken.first() {
        None => Ok(()),
        Some((name, quantity)) => Err(CommandError::failed(format!(
            "{} of {} quantities are out of bounds, the first being {name}: {:.2e} at {}",
            broken.len(),
            report.quantities.len(),
            quantity.largest,
            quantity.at
        ))),
    }
}

fn text(report: &Report) -> String {
    let header = ["quantity", "compared", "largest deviation", "tolerance", "", "where"];
    let mut grid = TextTable::new(header.map(str::to_owned));
    for (name, quantity) in &report.quantities {
        grid.row([
            name.clone(),
            quantity.compared.to_string(),
            format!("{:.2e}", quantity.largest),
            quantity.bound.to_string(),
            if quantity.holds() { "ok" } else { "BROKEN" }.to_owned(),
            quantity.at.clone(),
        ]);
    }
    let mut text = grid.flush_left().render();
    text += &format!("\n{} runs replayed: {}\n", report.runs.len(), report.runs.join(", "));
    for (what, reason) in &report.skipped {
        text += &format!("not replayed: {what} ({reason})\n");
    }
    text += &format!(
        "{} numbers of {} quantities compared: {}\n",
        report.compared(),
        report.quantities.len(),
        if report.passed() { "parity holds" } else { "parity does NOT hold" }
    );
    text
}
