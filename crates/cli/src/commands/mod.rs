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
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod validate;

use vxf_run::recipe::Recipe;
use vxf_run::resolve::PAPER_METRICS;

/// The metrics that are shown in full: those that the recipe names, and those for which the comparison
/// has no column.
pub(crate) fn shown(recipe: &Recipe) -> Vec<String> {
    let mut shown = recipe.settings.detail.clone();
    for metric in recipe.metrics.iter().map(|metric| metric.name) {
        if !PAPER_METRICS.contains(&metric) && !shown.iter().any(|known| known == metric) {
            shown.push(metric.to_owned());
        }
    }
    shown
}

/// Version of what `--json` prints.
pub(crate) const SCHEMA_VERSION: u32 = 1;
