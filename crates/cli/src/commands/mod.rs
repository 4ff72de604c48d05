//! The commands, one file each.

pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod layers;
pub(crate) mod list;
pub(crate) mod parity;
pub(crate) mod pretrain;
pub(crate) mod prune;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod show;
pub(crate) mod validate;
pub(crate) mod verify;

use vxf_recipe::Experiment;
use vxf_report::table::Shown;
use vxf_report::{Layout, Record, detail, doubts, summary, table};
use vxf_run::measure::health;

/// What an experiment found: the result in a sentence, the table, metrics in full, doubts.
pub(crate) fn results(
    experiment: &Experiment,
    layout: &Layout,
    records: &[Record],
    full: bool,
) -> String {
    let found = health::doubts(layout, records);
    let mut text = summary::summary(layout, records, &found);
    if !text.is_empty() {
        text.push('\n');
    }
    let columns = Shown { full, metrics: whole(experiment), doubts: found };
    text += &table::comparison(layout, records, &columns);
    for metric in shown(experiment) {
        text = text.trim_end().to_owned() + "\n\n" + &detail::of_metric(layout, records, &metric);
    }
    text = text.trim_end().to_owned() + "\n";
    if !columns.doubts.is_empty() {
        text += "\nIn doubt\n\n";
        let lines = doubts::lines(&columns.doubts);
        lines.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    text
}

/// The metrics to show in full: those that the recipe names in `detail`, and those without a column in
/// the table.
fn shown(experiment: &Experiment) -> Vec<String> {
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

/// Schema version of `--json` output.
pub(crate) const SCHEMA_VERSION: u32 = 2;
