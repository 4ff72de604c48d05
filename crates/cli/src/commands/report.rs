//! `vxf report PATH`: prints again what an experiment found.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args as Group;
use vxf_report::picture::Ink;
use vxf_report::{Part, Picture, Terminal, format};
use vxf_run::Stored;

use crate::args::{EXIT_CODES, ReportFormat};
use crate::commands::findings::{Findings, is_open};
use crate::commands::page;
use crate::error::CommandError;
use crate::output::{print_raw, tell, terminal};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ReportArgs {
    /// An experiment, finished or not, or a run of it.
    pub(crate) path: PathBuf,
    /// The format [default: by the ending of `--output`, otherwise text].
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: Option<ReportFormat>,
    /// Write the report to this file instead of stdout; it must not exist yet.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write each picture of the page into this directory, as an .svg and as a .csv file; none of them may
    /// exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Show prompts and answers of your own model too; those of the embedded world are always shown.
    #[arg(long, visible_alias = "log-samples")]
    pub(crate) with_answers: bool,
    /// Show every column of the table, not only the standard ones.
    #[arg(long)]
    pub(crate) full: bool,
}

/// The experiment `root` as it was typed, if `path` is that directory and no run of it.
pub(crate) fn as_typed<'a>(path: &'a Path, root: &'a Path) -> &'a Path {
    let same = path.canonicalize().is_ok_and(|path| path == root);
    if same { path } else { root }
}

pub(crate) fn run(args: &ReportArgs) -> Result<(), CommandError> {
    let stored = Stored::open(&args.path)?;
    let failures = stored.failures();
    let findings = Findings {
        root: as_typed(&args.path, &stored.root),
        experiment: &stored.experiment,
        layout: &stored.layout,
        records: &stored.records,
        failures: &failures,
        overlaps: &stored.manifest.overlaps,
        full: args.full,
        open: is_open(&stored.experiment, args.with_answers),
    };
    let form = match (args.format, &args.output) {
        (Some(format), _) => format,
        (None, Some(file)) => ReportFormat::of(file)?,
        (None, None) => ReportFormat::Text,
    };
    let wants_pictures = args.pictures.is_some() || form == ReportFormat::Html;
    let pictures = match wants_pictures {
        true => page::pictures(&stored)?,
        false => Vec::new(),
    };
    let parts = || -> Result<Vec<Part>, CommandError> {
        let mut parts: Vec<_> = unfinished(&stored).map(Part::Paragraph).into_iter().collect();
        if stored.records.is_empty() {
            return Ok(parts);
        }
        parts.extend(findings.parts(|run| stored.answers(run))?);
        Ok(parts)
    };
    if unfinished(&stored).is_some() {
        tell(&format!("`vxf resume {}` continues it", args.path.display()));
    }
    let name = name(&stored.root);
    let text = match form {
        ReportFormat::Text => match args.output {
            Some(_) => Terminal::default().text(&parts()?),
            None => terminal().text(&parts()?),
        },
        ReportFormat::Markdown => format::markdown(&parts()?),
        ReportFormat::Latex => format::latex(&parts()?),
        ReportFormat::Html => {
            format::page(&name, &page::parts(&findings, &stored, &pictures, unfinished(&stored))?)
        }
        ReportFormat::Csv => format::tidy(&name, &stored.records),
        ReportFormat::Json => {
            let text = serde_json::to_string_pretty(&findings.value());
            text.map_err(|error| CommandError::failed(error.to_string()))? + "\n"
        }
    };
    if let Some(directory) = &args.pictures {
        write_pictures(directory, pictures.iter().flat_map(|(_, pictures)| pictures))?;
    }
    match &args.output {
        Some(path) => {
            write_new(path, &text)?;
            tell(&format!("the report is in {}", path.display()));
            Ok(())
        }
        None => print_raw(&text),
    }
}

/// The name of the directory.
fn name(root: &Path) -> String {
    root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// What is missing of an experiment, if something is.
fn unfinished(stored: &Stored) -> Option<String> {
    let (missing, all) = (stored.missing(), stored.runs.len());
    (missing > 0).then(|| {
        format!("Not finished: {} of {all} runs are done, and figures will change.", all - missing)
    })
}

/// Writes each picture and its numbers.
fn write_pictures<'a>(
    directory: &Path,
    pictures: impl Iterator<Item = &'a Picture>,
) -> Result<(), CommandError> {
    fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    let mut count = 0;
    for picture in pictures {
        write_new(&directory.join(format!("{}.svg", picture.name)), &picture.svg(Ink::File))?;
        write_new(&directory.join(format!("{}.csv", picture.name)), &picture.csv())?;
        count += 1;
    }
    tell(&format!("{count} pictures, each as .svg and .csv, are in {}", directory.display()));
    Ok(())
}

/// Writes a file that does not exist yet.
fn write_new(path: &Path, text: &str) -> Result<(), CommandError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format!("{} already exists; nothing is overwritten", path.display());
            CommandError::usage(message).hint("name another file or directory")
        }
        _ => failed(path, &error),
    })
}

fn failed(path: &Path, error: &io::Error) -> CommandError {
    let failed = CommandError::failed(format!("cannot write {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::NotFound => failed.hint("the directory of the file must exist"),
        _ => failed,
    }
}
