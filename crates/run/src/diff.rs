//! Where a run departs from a recipe.

use serde::Serialize;
use serde_json::Value;
use vxf_recipe::Experiment;
use vxf_recipe::diff::{Difference, differences};

use crate::Result;
use crate::store::finished;

/// All that sets a run apart from a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Deviations {
    /// Settings: the recipe's, then the run's.
    pub settings: Vec<Difference>,
    /// What happened in the run that no setting shows: rows left out, samples cut short, runs
    /// that are not done.
    pub facts: Vec<String>,
}

/// All settings of an experiment but those that no figure depends on.
fn settings(experiment: &Experiment) -> Value {
    let mut map = experiment.value();
    for key in ["schema_version", "threads", "recompute", "detail", "keep"] {
        map.remove(key);
    }
    Value::Object(map)
}

/// Where the experiment in `root` departs from `recipe`.
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
