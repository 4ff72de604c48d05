//! Settings on invented data that differ from the paper's, shown beside results.

use serde_json::{Map, Value};
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::registry;
use vxf_recipe::settings::EMBEDDED;
use vxf_recipe::{Recipe, StageRecipe, USUAL, Worldly, world_defaults};

/// A setting with a default of the embedded world that differs from the paper's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Its key.
    pub key: String,
    /// The value used here.
    pub here: Value,
    /// The paper's value, or the plugin's own default.
    pub paper: Value,
}

/// The settings of the stages run in which an experiment on invented data differs from the paper; for files,
/// `vxf diff` lists them.
pub fn deviations(recipe: &Recipe) -> Vec<Deviation> {
    let embedded = recipe.model.path == EMBEDDED;
    let values = recipe.value();
    let mut found = Vec::new();
    let run = |stage: &StageRecipe| recipe.settings.stages.include(stage.kind);
    let stages = recipe.pipeline.iter().zip(USUAL).filter(|(stage, _)| run(stage));
    for (stage, names) in stages.filter(|_| embedded) {
        plugin::<dyn PerturberConfig>(names.perturber, stage.perturber.name, &values, &mut found);
        if let [method] = stage.methods.as_slice() {
            plugin::<dyn DefenseConfig>(names.defense, method.name, &values, &mut found);
        }
    }
    let idle = recipe.pipeline.iter().zip(USUAL).filter(|(stage, _)| !run(stage));
    let idle: Vec<_> = idle.map(|(_, names)| names.training).collect();
    for (key, paper) in recipe.data.config.unlike_paper() {
        if key.split('.').next().is_some_and(|section| idle.contains(&section)) {
            continue;
        }
        let Some(here) = at(&values, &key) else { continue };
        if !agrees(here, &paper) {
            found.push(Deviation { key, here: here.clone(), paper });
        }
    }
    found
}

fn plugin<C: Worldly + ?Sized>(
    section: &str,
    name: &str,
    values: &Map<String, Value>,
    found: &mut Vec<Deviation>,
) {
    let (Ok(entry), Ok(own)) = (registry::find::<C>(name), world_defaults::<C>(name)) else {
        return;
    };
    let settings = (entry.settings)();
    for key in own.keys() {
        let path = format!("{section}.{key}");
        let default = settings.iter().find(|setting| setting.name == key);
        if let (Some(default), Some(here)) = (default, at(values, &path))
            && *here != default.default
        {
            let paper = default.default.clone();
            found.push(Deviation { key: path, here: here.clone(), paper });
        }
    }
}

fn at<'a>(values: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = values.get(parts.next()?)?;
    parts.try_fold(first, |at, part| at.get(part))
}

/// Compares numbers by value, and tables by the keys of the paper's.
fn agrees(here: &Value, paper: &Value) -> bool {
    match (here, paper) {
        (Value::Object(here), Value::Object(paper)) => {
            paper.iter().all(|(key, value)| here.get(key).is_some_and(|here| agrees(here, value)))
        }
        (here, paper) => match (here.as_f64(), paper.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => here == paper,
        },
    }
}
