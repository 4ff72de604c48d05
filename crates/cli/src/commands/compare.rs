//! `vxf compare RUN|EXPERIMENT...`: several experiments in one table, and what differs in their settings.

use std::path::{Path, PathBuf};

use clap::Args as Group;
use serde_json::{Value, json};
use vxf_recipe::diff::{Difference, differences};
use vxf_recipe::reference;
use vxf_report::compare::{Compared, asked_differently, compare, only};
use vxf_report::{Layout, Part, Record, format};
use vxf_run::{Run, Stored};

use crate::args::{EXIT_CODES, ReportFormat};
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print_json, print_raw, print_report};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct CompareArgs {
    /// Experiments, finished or not, or runs of them.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// The format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

/// One of the things compared.
struct Side {
    name: String,
    stored: Stored,
    layout: Layout,
    records: Vec<Record>,
}

pub(crate) fn run(args: &CompareArgs) -> Result<(), CommandError> {
    let sides = args.paths.iter().map(|path| side(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(empty) = sides.iter().find(|side| side.records.is_empty()) {
        let message = format!("{}: no run of it is done yet", empty.name);
        return Err(CommandError::usage(message).hint("`vxf runs` shows the state of each run"));
    }
    let parts = || parts(&sides);
    match args.format {
        ReportFormat::Text => print_report(&parts()?),
        ReportFormat::Markdown => print_raw(&format::markdown(&parts()?)),
        ReportFormat::Latex => print_raw(&format::latex(&parts()?)),
        ReportFormat::Html => print_raw(&format::page("Comparison", &parts()?)),
        ReportFormat::Csv => {
            let tables = sides.iter().map(|side| format::tidy(&side.name, &side.records));
            // One header for all.
            let one = |(index, table): (usize, String)| match (index, table.split_once('\n')) {
                (1.., Some((_, rows))) => rows.to_owned(),
                _ => table,
            };
            print_raw(&tables.enumerate().map(one).collect::<String>())
        }
        ReportFormat::Json => print_json(&value(&sides)?),
    }
}

fn side(path: &Path) -> Result<Side, CommandError> {
    let stored = Stored::open(path)?;
    // A run is named by its place in its experiment's directory.
    let name = path.display().to_string().trim_end_matches('/').to_owned();
    let (layout, records) = match Run::is_single(path) {
        true => {
            let id = Run::open(path)?.record.id;
            let records = stored.records.iter().filter(|record| record.id == id).cloned().collect();
            (only(&stored.layout, &id), records)
        }
        false => (stored.layout.clone(), stored.records.clone()),
    };
    Ok(Side { name, stored, layout, records })
}

fn parts(sides: &[Side]) -> Result<Vec<Part>, CommandError> {
    let compared: Vec<_> = sides
        .iter()
        .map(|Side { name, layout, records, .. }| Compared { name, layout, records })
        .collect();
    let mut parts = compare(&compared);
    let mut notes = Vec::new();
    for side in sides.iter().filter(|side| side.stored.missing() > 0) {
        let (missing, all) = (side.stored.missing(), side.stored.runs.len());
        notes.push(format!("{}: {} of {all} runs are done", side.name, all - missing));
    }
    if let Some((first, others)) = compared.split_first() {
        for other in others.iter().filter(|other| asked_differently(first, other)) {
            notes.push(format!(
                "{} and {} were measured on different prompts: compare them with care",
                first.name, other.name
            ));
        }
    }
    for (title, lines) in [("To keep in mind", notes), ("Settings that differ", settings(sides)?)] {
        if !lines.is_empty() {
            parts.extend([Part::Heading(title.to_owned()), Part::List(lines)]);
        }
    }
    Ok(parts)
}

/// The settings that differ from those of the first, in words and by key.
fn settings(sides: &[Side]) -> Result<Vec<String>, CommandError> {
    let mut lines = Vec::new();
    let Some((first, others)) = sides.split_first() else { return Ok(lines) };
    for other in others.iter().filter(|other| other.stored.root != first.stored.root) {
        for Difference { key, first: own, second } in of(first, other) {
            let words = match reference::meaning(&key)? {
                Some(meaning) => format!("{meaning} (`{key}`)"),
                None => format!("`{key}`"),
            };
            lines.push(format!(
                "{words}: {} in {}, {} in {}",
                shown(own.as_ref()),
                first.name,
                shown(second.as_ref()),
                other.name
            ));
        }
    }
    Ok(lines)
}

fn of(first: &Side, other: &Side) -> Vec<Difference> {
    let value = |side: &Side| {
        let mut value = side.stored.experiment.value();
        // Figures depend on none of these.
        ["schema_version", "threads", "recompute", "detail", "keep"].iter().for_each(|key| {
            value.remove(*key);
        });
        Value::Object(value)
    };
    differences(&value(first), &value(other))
}

/// A value in short form.
fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map)) if map.contains_key("name") => {
            map["name"].as_str().unwrap_or_default().to_owned()
        }
        value => Difference::show(value),
    }
}

fn value(sides: &[Side]) -> Result<Value, CommandError> {
    let mut compared = Vec::new();
    for side in sides {
        compared.push(json!({
            "path": side.name,
            "experiment": side.stored.root,
            "runs": side.records,
            "missing": side.stored.missing(),
        }));
    }
    let differ = sides.iter().skip(1).map(|other| {
        json!({ "first": sides[0].name, "second": other.name, "settings": of(&sides[0], other) })
    });
    Ok(json!({
        "schema_version": SCHEMA_VERSION,
        "compared": compared,
        "differences": differ.collect::<Vec<_>>(),
    }))
}
