//! Where a run departs from a recipe.

use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::finished;
use crate::manifest::Manifest;
use crate::plan::CellId;
use crate::recipe::Recipe;
use crate::record::read_json;

/// A setting that is not the same on two sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The setting.
    pub key: String,
    /// Its value in the first; none if it has no such setting.
    pub first: Option<Value>,
    /// Its value in the second.
    pub second: Option<Value>,
}

impl Difference {
    /// One side as text.
    pub fn show(value: Option<&Value>) -> String {
        value.map_or("nothing".to_owned(), Value::to_string)
    }
}

/// All settings in which two trees differ, tables entered, everything else compared whole.
pub fn differences(first: &Value, second: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(first), Some(second), &mut found);
    found
}

fn compare(key: &str, first: Option<&Value>, second: Option<&Value>, found: &mut Vec<Difference>) {
    match (first, second) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let only_second = b.keys().filter(|key| !a.contains_key(*key));
            for name in a.keys().chain(only_second) {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, a.get(name), b.get(name), found);
            }
        }
        (a, b) if same(a, b) => {}
        (first, second) => found.push(Difference {
            key: key.to_owned(),
            first: first.cloned(),
            second: second.cloned(),
        }),
    }
}

/// Numbers agree by value: a recipe may write 1 for 1.0.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// All that sets a run apart from a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Deviations {
    /// Settings: the recipe's, then the run's.
    pub settings: Vec<Difference>,
    /// What happened in the run that no setting shows: rows left out, samples cut short, cells
    /// that are not done.
    pub facts: Vec<String>,
}

/// All settings of a recipe but those that no figure depends on.
fn settings(recipe: &Recipe) -> Value {
    let mut map = recipe.value();
    for key in ["threads", "recompute", "detail"] {
        map.remove(key);
    }
    Value::Object(map)
}

/// Where the experiment in `root` departs from `recipe`.
///
/// # Errors
/// When the experiment's recipe or manifest cannot be read.
pub fn of_experiment(recipe: &Recipe, root: &std::path::Path) -> Result<Deviations> {
    let run = finished::recipe(root)?;
    let manifest: Manifest = read_json(&root.join("manifest.json"))?;
    let (first, second) = (settings(recipe), settings(&run));
    let mut facts = Vec::new();
    let plan = crate::plan::Plan::of(&run)?;
    let cells = plan.cells();
    let done = |cell: &CellId| root.join(cell.path()).join(finished::RESULT).is_file();
    let missing = cells.iter().filter(|cell| !done(cell)).count();
    if missing > 0 {
        facts.push(format!("{missing} of {} cells are not done", cells.len()));
    }
    if let Some(report) = &manifest.report {
        facts.extend(report.losses());
    }
    Ok(Deviations { settings: differences(&first, &second), facts })
}
