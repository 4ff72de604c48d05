//! Settings on invented data that differ from the paper's, shown beside results.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::registry;
use vxf_recipe::settings::EMBEDDED;
use vxf_recipe::{Experiment, Recipe, StageRecipe, USUAL, Worldly, world_defaults};
use vxf_report::Layout;

use crate::plan::graph::short;

/// A setting with a default of the embedded world that differs from the paper's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Its key.
    pub key: String,
    /// The value used here.
    pub here: Value,
    /// The paper's value, or the plugin's own default.
    pub paper: Value,
    /// The method that has this setting, if not all of the experiment have it.
    pub method: Option<String>,
}

/// Explains the short names of tested rows that give a list or a table by its digest: the settings in which rows of one
/// method differ by this axis.
pub fn names(experiment: &Experiment, layout: &Layout) -> Vec<String> {
    /// By name: the value of the axis, and all settings of the stages.
    type Named<'a> = BTreeMap<&'a str, (&'a Value, Vec<(String, Value)>)>;
    // By method and axis.
    let mut rows: BTreeMap<(&str, &str), Named<'_>> = BTreeMap::new();
    for block in &layout.blocks {
        let tested = block.lines.iter().filter(|line| block.tested.contains(&line.name));
        for run in tested.filter_map(|line| line.runs.first()) {
            for (key, name) in &run.axes {
                let nested = |value: &Value| value.is_array() || value.is_object();
                let here = |(axis, value): &&(String, Value)| {
                    axis == key && nested(value) && short(value) == *name
                };
                let mut points = experiment.points.iter();
                let found = points.find_map(|it| Some((it, it.values.iter().find(here)?)));
                if let Some((point, (_, value))) = found {
                    let settings = leaves(&json!(stages(&point.recipe)));
                    rows.entry((&run.label, key)).or_default().insert(name, (value, settings));
                }
            }
        }
    }
    let mut lines = Vec::new();
    for ((label, key), named) in &rows {
        for (name, (value, settings)) in named {
            let differs = |it: &&(String, Value)| named.values().any(|(_, all)| !all.contains(it));
            let own = settings.iter().filter(differs);
            let own: Vec<_> = own.map(|(key, value)| format!("{key} = {value}")).collect();
            let means = if own.is_empty() { value.to_string() } else { own.join(", ") };
            lines.push(format!("{label} {key}={name}: {means}"));
        }
    }
    lines
}

/// The stages of a recipe by their kinds; of several of one kind, the second is `fine_tuning.2`.
fn stages(recipe: &Recipe) -> Map<String, Value> {
    let mut all = Map::new();
    for stage in &recipe.pipeline {
        let kind = stage.kind.to_string();
        let earlier = all.keys().filter(|key| key.split('.').next() == Some(&kind)).count();
        let key = if earlier > 0 { format!("{kind}.{}", earlier + 1) } else { kind };
        all.insert(key, Value::Object(stage.value()));
    }
    all
}

/// All settings of a tree with their keys.
fn leaves(tree: &Value) -> Vec<(String, Value)> {
    let Value::Object(map) = tree else { return vec![(String::new(), tree.clone())] };
    let below = |(key, value): (&String, &Value)| {
        let joined = |(rest, leaf): (String, Value)| match rest.is_empty() {
            true => (key.clone(), leaf),
            false => (format!("{key}.{rest}"), leaf),
        };
        leaves(value).into_iter().map(joined).collect::<Vec<_>>()
    };
    map.iter().flat_map(below).collect()
}

/// The settings of the stages run in which an experiment on invented data differs from the paper; for files,
/// `vxf diff` lists them. Those on which points of its axes differ are part of the rows' names and left out.
pub fn deviations(experiment: &Experiment) -> Vec<Deviation> {
    let points = &experiment.points;
    let values: Vec<_> = points.iter().map(|point| point.recipe.value()).collect();
    let mut found: Vec<Deviation> = Vec::new();
    for point in points {
        for mut each in of_recipe(&point.recipe) {
            let there: Vec<_> = values.iter().filter_map(|values| at(values, &each.key)).collect();
            if there.iter().any(|value| **value != each.here) {
                continue;
            }
            // Not all methods of the experiment have it.
            if there.len() < points.len() {
                each.method = Some(point.recipe.label());
            }
            if !found.contains(&each) {
                found.push(each);
            }
        }
    }
    found
}

fn of_recipe(recipe: &Recipe) -> Vec<Deviation> {
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
            found.push(Deviation { key, here: here.clone(), paper, method: None });
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
            found.push(Deviation { key: path, here: here.clone(), paper, method: None });
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
