//! What an experiment found, as the parts of a report: the same for `run`, `resume`, `report` and `eval`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use vxf_recipe::Experiment;
use vxf_recipe::settings::EMBEDDED;
use vxf_report::document::lead;
use vxf_report::samples::{self, Overlap};
use vxf_report::table::Shown;
use vxf_report::{
    Answer, Doubt, Failure, Layout, Part, Record, RunId, cost, detail, doubts, summary, table,
    verdict,
};
use vxf_run::measure::health;
use vxf_run::notes::{self, Deviation};

use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;

/// An experiment with its records.
pub(crate) struct Findings<'a> {
    /// Its directory.
    pub(crate) root: &'a Path,
    /// Its recipe.
    pub(crate) experiment: &'a Experiment,
    /// Which runs are compared with each other.
    pub(crate) layout: &'a Layout,
    /// The records of the runs that are done.
    pub(crate) records: &'a [Record],
    /// The metrics that failed.
    pub(crate) failures: &'a [Failure],
    /// How many prompts of each set are in a training set too.
    pub(crate) overlaps: &'a BTreeMap<String, Overlap>,
    /// Whether all columns are in the table.
    pub(crate) full: bool,
    /// Whether prompts and answers may be shown.
    pub(crate) open: bool,
}

/// Whether prompts and answers may be shown: if they are `asked` for, and of the embedded model on invented
/// data. A user's own model may give harmful answers.
pub(crate) fn is_open(experiment: &Experiment, asked: bool) -> bool {
    let recipe = experiment.recipe();
    asked || recipe.data.config.is_harmless() && recipe.model.path == EMBEDDED
}

impl Findings<'_> {
    /// Everything that `vxf run` prints. `read` returns the stored answers of a run.
    pub(crate) fn parts<E>(
        &self,
        read: impl Fn(&RunId) -> Result<Vec<Answer>, E>,
    ) -> Result<Vec<Part>, CommandError>
    where
        CommandError: From<E>,
    {
        let mut parts = results(self.experiment, self.layout, self.records, self.full);
        for (title, lines) in [
            (NAMES, self.names()),
            (DEVIATIONS, self.deviations()),
            ("Attacks", self.attacks()),
            ("Caveats", self.caveats().into_iter().map(str::to_owned).collect()),
        ] {
            if !lines.is_empty() {
                parts.extend([Part::Heading(title.to_owned()), Part::List(lines)]);
            }
        }
        parts.extend(samples::closing(self.layout, self.open, self.overlaps, read)?);
        parts.push(Part::Closing(format!("All files are in {}", self.root.display())));
        Ok(parts)
    }

    /// What rows of one method differ in, where their names do not say it.
    pub(crate) fn names(&self) -> Vec<String> {
        notes::names(self.experiment, self.layout)
    }

    /// The attacks that stand in the place of a user's method, which labels of methods leave out.
    pub(crate) fn attacks(&self) -> Vec<String> {
        let stages = self.experiment.points.iter().flat_map(|point| &point.recipe.pipeline);
        let methods = stages.flat_map(|stage| &stage.methods);
        let names: BTreeSet<&str> =
            methods.filter(|it| it.config.attacks()).map(|it| it.name).collect();
        let line = |name: &str| {
            format!(
                "the user's stage is the attack `{name}`, on defended models and on those beside them alike"
            )
        };
        names.into_iter().map(line).collect()
    }

    /// The settings that differ from the paper.
    pub(crate) fn deviations(&self) -> Vec<String> {
        let line = |Deviation { key, here, paper, method }: Deviation| {
            let of = method.map_or_else(String::new, |method| format!("{method}: "));
            format!("{of}{key} = {} ({})", plain(&here), plain(&paper))
        };
        notes::deviations(self.experiment).into_iter().map(line).collect()
    }

    /// What the data cannot show.
    pub(crate) fn caveats(&self) -> Vec<&'static str> {
        let stages = self.experiment.points.iter().flat_map(|point| point.recipe.stages());
        let methods = stages.map(|stage| stage.label()).collect();
        self.experiment.recipe().data.config.caveats(&methods)
    }

    /// Everything as one JSON value.
    pub(crate) fn value(&self) -> Value {
        let doubts = health::doubts(self.layout, self.records);
        let unlike = notes::deviations(self.experiment);
        let unlike = unlike.iter().map(
            |Deviation { key, here, paper, method }| {
                json!({ "key": key, "here": here, "paper": paper, "method": method })
            },
        );
        json!({
            "schema_version": SCHEMA_VERSION,
            "experiment": self.root.display().to_string(),
            "recipe": self.experiment.value(),
            "runs": self.records,
            "differs_from_paper": unlike.collect::<Value>(),
            "comparisons": verdict::comparisons(self.layout, self.records),
            "attack_cost": cost::costs(self.layout, self.records),
            "doubts": doubts.iter().map(Doubt::to_string).collect::<Vec<_>>(),
            "failed": self.failures,
            "limits": self.caveats(),
        })
    }
}

/// The heading of the settings in which rows of one method differ.
const NAMES: &str = "Rows of one method, by the settings in which they differ";

/// The heading of the settings that differ from the paper.
const DEVIATIONS: &str = "Settings that differ from the paper (the paper's in brackets)";

/// The result in a sentence, the table, metrics in full, doubts.
pub(crate) fn results(
    experiment: &Experiment,
    layout: &Layout,
    records: &[Record],
    full: bool,
) -> Vec<Part> {
    let found = health::doubts(layout, records);
    let mut parts = lead(&summary::summary(layout, records, &found));
    parts.extend(figures(experiment, layout, records, full));
    if !found.is_empty() {
        parts.push(Part::Heading("In doubt".to_owned()));
        parts.push(Part::List(doubts::lines(&found)));
    }
    parts
}

/// The table, and metrics in full.
pub(crate) fn figures(
    experiment: &Experiment,
    layout: &Layout,
    records: &[Record],
    full: bool,
) -> Vec<Part> {
    let doubts = health::doubts(layout, records);
    let shown = Shown { full, metrics: whole(experiment), doubts };
    let mut parts = table::comparison(layout, records, &shown);
    for metric in in_full(experiment) {
        parts.extend(detail::of_metric(layout, records, &metric));
    }
    parts.extend(cost::tables(layout, records));
    parts
}

/// The metrics to show in full: those that the recipe names in `detail`, and those without a column in
/// the table.
fn in_full(experiment: &Experiment) -> Vec<String> {
    let recipe = experiment.recipe();
    let mut shown = recipe.settings.detail.clone();
    for metric in recipe.metrics.iter().filter(|metric| metric.config.columns().is_empty()) {
        if !shown.iter().any(|known| known == metric.name) {
            shown.push(metric.name.to_owned());
        }
    }
    shown
}

/// The metrics all of whose columns belong in the table: those that were asked for.
fn whole(experiment: &Experiment) -> Vec<String> {
    let recipe = experiment.recipe();
    let usual = vxf_recipe::default_metrics(&*recipe.data.config);
    let chosen = recipe.metrics.iter().map(|metric| metric.name);
    let chosen = chosen.filter(|name| !usual.contains(name)).map(str::to_owned);
    recipe.settings.detail.iter().cloned().chain(chosen).collect()
}

/// A setting in short form: adapters by type and rank.
fn plain(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let part = |(key, value): (&String, &Value)| match key.as_str() {
                "type" => plain(value),
                key => format!("{key} {}", plain(value)),
            };
            map.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.abs() >= 1e6 || (value != 0.0 && value.abs() < 1e-3) => {
                format!("{value:e}")
            }
            Some(value) => value.to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}
