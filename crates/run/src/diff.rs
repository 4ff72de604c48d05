//! Differences between a run and a recipe.

use serde::Serialize;
use serde_json::Value;
use vxf_recipe::Experiment;
use vxf_recipe::diff::{Difference, differences};

use crate::Result;
use crate::store::finished;

/// All differences between a run and a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Deviations {
    /// Settings that differ: first the recipe's value, then the run's.
    pub settings: Vec<Difference>,
    /// Differences that no setting shows: dropped rows, truncated samples, unfinished runs.
    pub facts: Vec<String>,
}

/// All settings of an experiment on which figures depend.
fn settings(experiment: &Experiment) -> Value {
    let mut map = experiment.value();
    for key in ["schema_version", "threads", "recompute", "detail", "keep"] {
        map.remove(key);
    }
    Value::Object(map)
}

/// Differences between `recipe` and the experiment in `root`.
///
/// # Errors
/// When the experiment's recipe or manifest cannot be read.
pub fn of_experiment(recipe: &Experiment, root: &std::path::Path) -> Result<Deviations> {
    let run = finished::experiment(root)?;
    let manifest = finished::manifest(root)?;
    let (first, second) = (settings(recipe), settings(&run));
    let mut facts = Vec::new();
    let runs = finished::graph(root)?.runs;
    let missing = runs.iter().filter(|run| !root.join(run.id.path()).is_dir()).count();
    if missing > 0 {
        facts.push(format!("{missing} of {} runs are not done", runs.len()));
    }
    if let Some(report) = &manifest.report {
        facts.extend(report.losses());
    }
    Ok(Deviations { settings: differences(&first, &second), facts })
}
