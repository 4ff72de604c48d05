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

use vxf_recipe::Experiment;

/// The metrics to show in full: those that the recipe names in `detail`, and those without a column in
/// the table.
pub(crate) fn shown(experiment: &Experiment) -> Vec<String> {
    let recipe = experiment.recipe();
    let mut shown = recipe.settings.detail.clone();
    for metric in recipe.metrics.iter().filter(|metric| metric.config.columns().is_empty()) {
        if !shown.iter().any(|known| known == metric.name) {
            shown.push(metric.name.to_owned());
        }
    }
    shown
}

/// Schema version of `--json` output.
pub(crate) const SCHEMA_VERSION: u32 = 2;
