//! Where a run departs from a recipe.

use serde::Serialize;
use serde_json::Value;
use vxf_recipe::Recipe;
use vxf_recipe::diff::{Difference, differences};

use crate::Result;
use crate::finished;
use crate::manifest::Manifest;
use crate::record::read_json;

/// All that sets a run apart from a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Deviations {
    /// Settings: the recipe's, then the run's.
    pub settings: Vec<Difference>,
    /// What happened in the run that no setting shows: rows left out, samples cut short, cells
    /// that are not done.
    pub facts: Vec<String>,
}

/// Where the experiment in `root` departs from `recipe`.
///
/// # Errors
/// When the experiment's recipe or manifest cannot be read.
pub fn of_experiment(recipe: &Recipe, root: &std::path::Path) -> Result<Deviations> {
    let run = finished::recipe(root)?;
    let manifest: Manifest = read_json(&root.join("manifest.json"))?;
    let (first, second) = (Value::Object(recipe.essence()), Value::Object(run.essence()));
    let mut facts = Vec::new();
    let plan = crate::plan::Plan::of(&run)?;
    let cells = plan.cells();
    let missing = cells.iter().filter(|cell| !root.join(cell.path()).is_dir()).count();
    if missing > 0 {
        facts.push(format!("{missing} of {} cells are not done", cells.len()));
    }
    if let Some(report) = &manifest.report {
        facts.extend(report.losses());
    }
    Ok(Deviations { settings: differences(&first, &second), facts })
}
