//! `vxf runs PATH`: lists an experiment's runs, or shows one run with its ancestors.

use std::path::{Path, PathBuf};

use clap::Args as Group;
use serde_json::{Value, json};
use vxf_report::{Record, TextTable};
use vxf_run::store::finished;
use vxf_run::{Control, Every, Pending, Prepared, Run};

use crate::args::EXIT_CODES;
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};
use crate::progress::{Reporter, access};
use crate::signals;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunsArgs {
    /// An experiment, a run of it, or a directory of experiments.
    pub(crate) path: PathBuf,
    /// List the runs that the experiment lacks, for `vxf task`: digest and run, one a line, parents first.
    #[arg(long)]
    pub(crate) pending: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &RunsArgs) -> Result<(), CommandError> {
    if args.pending {
        return pending(args);
    }
    match (Run::is_single(&args.path), args.path.join("manifest.json").is_file()) {
        (true, _) => one(args),
        (false, true) => {
            let listed = experiment(&args.path)?;
            match args.json {
                true => print_json(&json!({
                    "schema_version": SCHEMA_VERSION, "experiments": [listed.value()],
                })),
                false => print(&listed.text()),
            }
        }
        (false, false) => several(args),
    }
}

/// Lists what the experiment lacks.
fn pending(args: &RunsArgs) -> Result<(), CommandError> {
    if !args.path.join("manifest.json").is_file() {
        let message = format!("--pending: {} is not an experiment", args.path.display());
        return Err(CommandError::usage(message).hint(
            "an experiment is a directory with a manifest.json; `vxf run --prepare` makes one",
        ));
    }
    let root = Run::root_of(&args.path)?;
    // Listing never downloads.
    let prepared = Prepared::new(finished::experiment(&root)?, access(true)?)?;
    let asked = signals::watched()?;
    let control = Control::new(Every::default(), &asked);
    let pending = prepared.pending(&root, control, &Reporter::new(asked.clone()))?;
    if args.json {
        let each = |it: &Pending| json!({ "digest": it.digest, "run": it.path, "depth": it.depth });
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "experiment": root,
            "pending": pending.iter().map(each).collect::<Vec<_>>(),
        }));
    }
    print(&pending.iter().map(Pending::line).collect::<String>())
}

/// The runs of one experiment.
struct Listed {
    root: PathBuf,
    finished: bool,
    /// Path within the experiment, state, and the record if there is one.
    runs: Vec<(String, &'static str, Option<Record>)>,
}

fn experiment(root: &Path) -> Result<Listed, CommandError> {
    let manifest = finished::manifest(root)?;
    let mut runs = Vec::new();
    for spec in finished::graph(root)?.runs {
        let path = spec.id.path();
        let place = root.join(&path);
        let under_way = root.join("checkpoints").join(&path).is_dir();
        let (state, record) = match (Run::is_single(&place), under_way) {
            (true, _) => {
                let run = Run::open(&place)?;
                let state = match (run.is_measured(), run.record.failed.is_empty()) {
                    (true, true) => "done",
                    (true, false) => "done, some metrics failed",
                    (false, _) => "trained, not measured",
                };
                (state, Some(run.record))
            }
            (false, true) => ("under way", None),
            (false, false) => ("not begun", None),
        };
        runs.push((path.display().to_string(), state, record));
    }
    Ok(Listed { root: root.to_owned(), finished: manifest.finished.is_some(), runs })
}

impl Listed {
    fn text(&self) -> String {
        let done = self.runs.iter().filter(|(_, _, record)| record.is_some()).count();
        let state = if self.finished { "finished" } else { "not finished" };
        let root = self.root.display();
        let mut text = format!("{root}: {state}, {done} of {} runs\n\n", self.runs.len());
        let header = ["run", "state", "stage", "steps", "seconds", "digest"].map(str::to_owned);
        let mut table = TextTable::new(header).flush_left();
        for (path, state, record) in &self.runs {
            let of = |text: fn(&Record) -> String| record.as_ref().map_or("-".to_owned(), text);
            table.row([
                path.clone(),
                (*state).to_owned(),
                of(|record| record.stage.to_string()),
                of(|record| record.steps.to_string()),
                of(|record| format!("{:.0}", record.seconds)),
                of(|record| record.digest.as_deref().map_or("-".into(), |it| it[..8].to_owned())),
            ]);
        }
        text += &table.render();
        text
    }

    fn value(&self) -> Value {
        let each = |(path, state, record): &(String, &str, Option<Record>)| json!({ "run": path, "state": state, "record": record });
        json!({
            "experiment": self.root,
            "finished": self.finished,
            "runs": self.runs.iter().map(each).collect::<Vec<_>>(),
        })
    }
}

/// Lists the experiments in a directory.
fn several(args: &RunsArgs) -> Result<(), CommandError> {
    let below = std::fs::read_dir(&args.path).map_err(|error| {
        CommandError::usage(format!("{}: {error}", args.path.display()))
            .hint("name an experiment, a run, or a directory of experiments such as `runs`")
    })?;
    let mut places: Vec<_> = below.flatten().map(|entry| entry.path()).collect();
    places.retain(|place| place.join("manifest.json").is_file());
    places.sort();
    if places.is_empty() {
        let message = format!("{}: there is no experiment in it", args.path.display());
        return Err(CommandError::usage(message)
            .hint("an experiment is a directory with a manifest.json; `vxf run` makes one"));
    }
    let listed = places.iter().map(|place| experiment(place)).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let all: Vec<_> = listed.iter().map(Listed::value).collect();
        return print_json(&json!({ "schema_version": SCHEMA_VERSION, "experiments": all }));
    }
    print(&listed.iter().map(Listed::text).collect::<Vec<_>>().join("\n"))
}

/// Shows one run: its settings, its figures, and its ancestors.
fn one(args: &RunsArgs) -> Result<(), CommandError> {
    let run = Run::open(&args.path)?;
    let root = run.root.clone();
    let lineage = run.lineage()?;
    let records: Vec<_> = lineage.iter().map(|run| (&run.place, &run.record)).collect();
    if args.json {
        let each =
            |(place, record): &(&PathBuf, &Record)| json!({ "run": place, "record": record });
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "experiment": root,
            "lineage": records.iter().map(each).collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    for (place, record) in &records {
        let inside = place.strip_prefix(&root).unwrap_or(place);
        text += &format!("{} ({})\n", inside.display(), record.stage);
        let mut line = |label: &str, what: String| text += &format!("  {label:<10} {what}\n");
        line("method", record.defense.to_string());
        line("perturber", record.perturber.to_string());
        line("trained", format!("{} steps on {} samples", record.steps, record.samples));
        line("digest", record.digest.clone().unwrap_or_else(|| "none (version 1)".into()));
    }
    if let Some((_, record)) = records.last() {
        let mut table = TextTable::new(["figure", "value", "n"].map(str::to_owned));
        for row in &record.measurements {
            let value = row.value().map_or("-".into(), |value| format!("{value:.3}"));
            table.row([row.figure.name.clone(), value, row.figure.n.to_string()]);
        }
        text += &format!("\n{}", table.render());
        for (metric, problem) in &record.failed {
            text += &format!("  `{metric}` failed: {problem}\n");
        }
    }
    print(&text)
}
