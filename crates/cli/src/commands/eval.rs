//! `vxf eval TARGET`: evaluates a model, or a finished run again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as Group;
use serde_json::{Value, json};
use vxf_access::Access;
use vxf_access::check_target;
use vxf_core::registry;
use vxf_data::DataConfig;
use vxf_recipe::{Experiment, Layer, Place};
use vxf_report::{Answer, Failure, Failures, Layout, Record, Row, TextTable};
use vxf_run::measure::metrics::Measured;
use vxf_run::store::finished;
use vxf_run::{Evaluation, Evaluator, Run};
use vxf_untrusted::printable;

use crate::args::{EXIT_CODES, HubOptions, RecipeOptions};
use crate::commands::findings::results;
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{print, print_json, print_raw, tell, terminal};
use crate::progress::access;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct EvalArgs {
    /// A run, a whole experiment, a model directory, or a hub id (owner/name, or hf:owner/name).
    pub(crate) target: String,
    /// The recipe with the data to measure on, for a model; a run uses its own.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Metric to measure; repeatable [default: the recipe's].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) metric: Vec<String>,
    /// Judge to use; repeatable, and the first one gives figures without a suffix [default: the
    /// recipe's].
    #[arg(long, value_name = "NAME")]
    pub(crate) judge: Vec<String>,
    /// Any recipe setting, such as data.harmful_test.take=100; repeatable.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
    /// Prompt template for your own data: alpaca, chat, plain or auto [default: the run's or the
    /// recipe's, else auto: the model's own chat template, or alpaca if it has none].
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<String>,
    /// Generate all answers again; by default a run's stored answers are judged.
    #[arg(long)]
    pub(crate) anew: bool,
    /// Show every column of an experiment's table, not only the standard ones.
    #[arg(long)]
    pub(crate) full: bool,
    /// Write all answers to this file as JSON lines; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub(crate) generations: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: ModelOptions,
}

/// Options of the commands that run a model and print what it does.
#[derive(Debug, Group)]
pub(crate) struct ModelOptions {
    /// Computing device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &EvalArgs) -> Result<(), CommandError> {
    if let Some(path) = args.generations.as_deref().filter(|path| path.exists()) {
        let message = format!("{} already exists; nothing is overwritten", path.display());
        return Err(CommandError::usage(message));
    }
    let access = Arc::new(access(args.common.finding.offline)?);
    let path = Path::new(&args.target);
    match (Run::is_run(path), Run::is_single(path)) {
        (true, false) => experiment(args, path, &access),
        (true, true) => one(args, path, &access),
        (false, _) => model(args, &access),
    }
}

/// Evaluates a model directory or hub model.
fn model(args: &EvalArgs, access: &Arc<Access>) -> Result<(), CommandError> {
    check_target(&args.target)?;
    let file = args.recipe.as_deref().map(vxf_recipe::file::read).transpose()?;
    let asked = recipe(args, file.unwrap_or_default(), Some(&args.target))?;
    let measured =
        Evaluator::new(asked.recipe(), access).and_then(|mut evaluator| evaluator.model());
    let evaluation = measured.map_err(CommandError::from).map_err(|error| match args.recipe {
        Some(_) => error,
        None => error.hint("`--recipe RECIPE` says on which data of your own to measure"),
    })?;
    single(args, &asked, evaluation)
}

/// Evaluates one finished run.
fn one(args: &EvalArgs, path: &Path, access: &Arc<Access>) -> Result<(), CommandError> {
    let run = Run::open(path)?;
    let own = run.experiment()?;
    let asked = recipe(args, run.layer()?, None)?;
    one_seed(&asked, &own)?;
    let record = run.record.clone();
    let evaluation = Evaluator::new(asked.recipe(), access)?.run(run, own.recipe(), args.anew)?;
    let mut remarks = Remarks::default();
    remarks.of_run(&record, &evaluation);
    single(args, &asked, evaluation)
}

/// Prints the figures of one model.
fn single(args: &EvalArgs, asked: &Experiment, evaluation: Evaluation) -> Result<(), CommandError> {
    let Measured { rows, answers, failures, not_for_aligned } = evaluation.measured;
    let failed = Failures::default();
    note(&failed, &args.target, &failures);
    let failed = failed.into_all();
    write(args, &[(args.target.clone(), answers)])?;
    if rows.is_empty() {
        return Err(nothing(&failed, &not_for_aligned));
    }
    if args.common.json {
        print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "target": args.target,
            "recipe": asked.value(),
            "measurements": rows,
            "failed": failed,
        }))?;
    } else {
        print(&format!("{}\n\n{}", args.target, figures(&rows)))?;
    }
    verdict(&failed)
}

/// Evaluates all finished runs of an experiment and prints the same table as `vxf run`.
fn experiment(args: &EvalArgs, path: &Path, access: &Arc<Access>) -> Result<(), CommandError> {
    let root = Run::root_of(path)?;
    let own = finished::experiment(&root)?;
    let asked = recipe(args, finished::layer(&root)?, None)?;
    one_seed(&asked, &own)?;
    let graph = finished::graph(&root)?;
    let mut evaluator = Evaluator::new(asked.recipe(), access)?;
    let (mut records, mut all) = (Vec::new(), Vec::new());
    let (mut remarks, failures) = (Remarks::default(), Failures::default());
    let mut not_for_aligned = Vec::new();
    for spec in &graph.runs {
        let place = root.join(spec.id.path());
        if !place.is_dir() {
            tell(&format!("{} is not done", spec.id));
            continue;
        }
        let run = Run::open(&place)?;
        let mut record = run.record.clone();
        let evaluation = evaluator.run(run, own.recipe(), args.anew)?;
        remarks.of_run(&record, &evaluation);
        let measured = evaluation.measured;
        note(&failures, &spec.id.to_string(), &measured.failures);
        not_for_aligned.extend(measured.not_for_aligned);
        record.measurements = measured.rows;
        record.failed = measured.failures.into_iter().collect();
        all.push((spec.id.path().display().to_string(), measured.answers));
        records.push(record);
    }
    write(args, &all)?;
    let failures = failures.into_all();
    if records.iter().all(|record| record.measurements.is_empty()) {
        not_for_aligned.sort();
        not_for_aligned.dedup();
        return Err(nothing(&failures, &not_for_aligned));
    }
    if args.common.json {
        print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "target": args.target,
            "recipe": asked.value(),
            "runs": records,
            "failed": failures,
        }))?;
        return verdict(&failures);
    }
    print_raw(tables(&asked, graph.layout, &records, args.full).trim_start())?;
    verdict(&failures)
}

/// The table of `vxf run` with the columns of the metrics `asked` for, and the figures of the last user's model
/// in full.
fn tables(asked: &Experiment, layout: Layout, records: &[Record], full: bool) -> String {
    let columns = asked.recipe().metrics.iter().flat_map(|metric| {
        metric.config.columns().iter().map(|column| (metric.name.to_owned(), *column))
    });
    let layout = Layout { columns: columns.collect(), ..layout };
    let mut text = String::new();
    if !layout.columns.is_empty() {
        text += &terminal().text(&results(asked, &layout, records, full));
    }
    if let Some(last) = records.iter().rev().find(|record| record.id.ratio.is_some()) {
        let rows = figures(&last.measurements);
        text += &printable(&format!("\n{}, in full\n\n{rows}", last.id));
    }
    text
}

/// Allows at most one seed: a run is measured on its own seed's data, or on that of one other seed.
fn one_seed(asked: &Experiment, own: &Experiment) -> Result<(), CommandError> {
    let (asked, own) = (&asked.recipe().settings.seeds, &own.recipe().settings.seeds);
    match asked == own || asked.len() == 1 {
        true => Ok(()),
        false => {
            Err(CommandError::usage("seeds: runs can be measured on the data of one other seed")
                .hint("for example `--set seeds=[7]`; without it each run is measured on its own"))
        }
    }
}

/// Notes about the data that runs are measured on, each once.
#[derive(Default)]
struct Remarks(Vec<String>);

impl Remarks {
    fn of_run(&mut self, record: &Record, evaluation: &Evaluation) {
        let Evaluation { seed, kept, other, .. } = evaluation;
        if *seed != record.id.seed {
            self.tell(format!(
                "measured on the data of seed {seed}, not on that of the run's own seed: \
                 figures differ from the run's"
            ));
        }
        if !other.is_empty() {
            let other = other.join(", ");
            self.tell(format!(
                "the prompts or the generation settings differ from the run's ({other}): new answers \
                 are generated"
            ));
        }
        if !kept.is_empty() {
            let kept = kept.join(", ");
            self.tell(format!("stored answers are reused ({kept}); `--anew` generates new ones"));
        }
    }

    fn tell(&mut self, remark: String) {
        if !self.0.contains(&remark) {
            tell(&remark);
            self.0.push(remark);
        }
    }
}

/// Collects the failures of one run.
fn note(failures: &Failures, run: &str, failed: &[(String, String)]) {
    failed.iter().for_each(|(metric, problem)| failures.add(run, metric, problem, tell));
}

/// Returns an error if a metric failed.
fn verdict(failures: &[Failure]) -> Result<(), CommandError> {
    match failures.is_empty() {
        true => Ok(()),
        false => Err(CommandError::metrics(failures)),
    }
}

/// The error when there are no figures at all.
fn nothing(failures: &[Failure], not_for_aligned: &[String]) -> CommandError {
    if !failures.is_empty() {
        return CommandError::metrics(failures);
    }
    let error = CommandError::usage("nothing was measured");
    match not_for_aligned.is_empty() {
        true => error.hint("name a metric with `--metric`; `vxf list metrics` shows what there is"),
        false => error.hint(format!(
            "{} compares with the aligned model, and this is one: name a run of the user's stage, \
             such as EXPERIMENT/<defense>/<ratio>/<seed>",
            not_for_aligned.join(", ")
        )),
    }
}

/// The recipe to measure with: `below`, changed by the flags.
fn recipe(
    args: &EvalArgs,
    mut below: Layer,
    model: Option<&str>,
) -> Result<Experiment, CommandError> {
    if !args.metric.is_empty() {
        below.set("metrics", json!(args.metric), Place::Flag("--metric".into()))?;
    }
    let takes_template = takes_template(&below);
    match &args.template {
        Some(template) if takes_template => {
            below.set("data.template", json!(template), Place::Flag("--template".into()))?;
        }
        Some(_) => {
            let message = "--template: this data source has its own template";
            return Err(CommandError::usage(message)
                .hint("`--recipe RECIPE` with a section `data` names data of your own"));
        }
        // For files, the model's own template is the default; a run has the template in its recipe.
        None if takes_template && below.get("data.template").is_none() => {
            below.set("data.template", json!("auto"), Place::Default)?;
        }
        None => {}
    }
    // The metrics that the run showed in full do not matter here.
    below.take("detail");
    // Axes vary only the training, and the run's record has that.
    below.take("axes");
    let choices = RecipeOptions {
        judge: args.judge.clone(),
        device: args.common.device.clone(),
        model: model.map(str::to_owned),
        set: args.set.clone(),
        ..RecipeOptions::default()
    };
    layers::upon(below, &choices)
}

/// Whether the data source has the setting `template`.
fn takes_template(layer: &Layer) -> bool {
    let Some(data) = layer.get("data") else { return false };
    let source = data.get("source").and_then(Value::as_str).unwrap_or("files");
    registry::find::<dyn DataConfig>(source)
        .is_ok_and(|entry| (entry.settings)().iter().any(|setting| setting.name == "template"))
}

/// Every figure with its interval and details.
fn figures(rows: &[Row]) -> String {
    let mut table = TextTable::new(["figure", "value", "95 % interval", "n"].map(str::to_owned));
    let mut remarks = Vec::new();
    for row in rows {
        let figure = &row.figure;
        let value =
            row.value().map_or("-".to_owned(), |value| format!("{value:.3} {}", figure.unit));
        let interval = figure.interval.map(|[low, high]| format!("{low:.1} to {high:.1}"));
        let interval = interval.unwrap_or_default();
        table.row([figure.name.clone(), value, interval, figure.n.to_string()]);
        for (key, detail) in &figure.details {
            if let Some(text) = remark(detail) {
                remarks.push(format!("  {} {key}: {text}\n", figure.name));
            }
        }
    }
    let remarks: String = remarks.into_iter().collect();
    match remarks.is_empty() {
        true => table.render(),
        false => format!("{}\n{remarks}", table.render()),
    }
}

/// A detail of a figure in a line: a text, a number, or an interval.
fn remark(detail: &Value) -> Option<String> {
    let number = |value: &Value| match (value.as_u64(), value.as_f64()) {
        (Some(count), _) => Some(count.to_string()),
        (None, number) => number.map(|number| format!("{number:.3}")),
    };
    match detail {
        Value::String(text) => Some(text.clone()),
        Value::Array(ends) => match ends.as_slice() {
            [low, high] => Some(format!("{} to {}", number(low)?, number(high)?)),
            _ => None,
        },
        other => number(other),
    }
}

/// Writes all answers as JSON lines.
fn write(args: &EvalArgs, all: &[(String, Vec<Answer>)]) -> Result<(), CommandError> {
    let Some(path) = &args.generations else { return Ok(()) };
    let mut text = String::new();
    for (target, answers) in all {
        for answer in answers {
            let mut value = json!(answer);
            value["target"] = json!(target);
            text += &format!("{value}\n");
        }
    }
    std::fs::write(path, text)
        .map_err(|error| CommandError::failed(format!("cannot write {}: {error}", path.display())))
}
