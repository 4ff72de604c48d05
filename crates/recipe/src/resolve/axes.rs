//! Axes: settings with several values. An experiment is the product of its axes.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::resolve;
use crate::layer::Layer;
use crate::recipe::{Chosen, Form, Recipe};
use crate::resolve::sections::USUAL;
use crate::resolve::stages::LIST;
use crate::{Error, Result};

/// The section with the axes.
const SECTION: &str = "axes";

/// Tables that a stage takes from its kind's section as a whole, or not at all.
const WHOLE: [&str; 1] = ["trainable"];

/// Settings that are lists already and need no axis.
const LISTS: [&str; 2] = ["seeds", "harmful_ratios"];

/// Limit of points; more are surely a mistake.
const MOST_POINTS: usize = 10_000;

/// A setting with several values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The key, such as `perturber.rho`.
    pub key: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// One combination of axis values, with its recipe.
#[derive(Clone, Debug)]
pub struct Point {
    /// Key and value of each axis.
    pub values: Vec<(String, Value)>,
    /// The recipe.
    pub recipe: Recipe,
}

/// A recipe with all its axes.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The axes, without seeds and harmful ratios.
    pub axes: Vec<Axis>,
    /// The product of the axes; a single point without any.
    pub points: Vec<Point>,
    /// The settings as written, without axes.
    written: Layer,
}

impl Experiment {
    /// Resolves `layer` at every point of its axes.
    ///
    /// # Errors
    /// As [`resolve`], and when an axis has no values, is a setting that is a list already, does not
    /// change any training, or changes a setting that all runs share.
    pub fn of(mut layer: Layer) -> Result<Self> {
        let places = layer.clone();
        let axes = match layer.take(SECTION) {
            None => Vec::new(),
            Some(Value::Object(table)) => axes(&places, SECTION, "", &table)?,
            Some(other) => {
                let rule = "must be a table of lists: a setting, and its values";
                return Err(Error::setting(places.place(SECTION), SECTION, rule, other));
            }
        };
        let mut combinations = vec![Vec::new()];
        for axis in &axes {
            let longer = |values: &Vec<(String, Value)>| {
                let with = |value: &Value| {
                    let mut values = values.clone();
                    values.push((axis.key.clone(), value.clone()));
                    values
                };
                axis.values.iter().map(with).collect::<Vec<_>>()
            };
            combinations = combinations.iter().flat_map(longer).collect();
            if combinations.len() > MOST_POINTS {
                let rule = format!("must make at most {MOST_POINTS} points together");
                let found = combinations.len();
                return Err(Error::setting(places.place(SECTION), SECTION, rule, found));
            }
        }
        let mut points = Vec::new();
        for values in combinations {
            let mut at = layer.clone();
            for (key, value) in &values {
                let place = places.place(&format!("{SECTION}.{key}"));
                at.set(key, value.clone(), place)?;
            }
            points.push(Point { values, recipe: resolve(at)? });
        }
        for axis in &axes {
            let key = format!("{SECTION}.{}", axis.key);
            if let Err(rule) = varies_training(axis, &points) {
                return Err(Error::setting(places.place(&key), &key, rule, json!(axis.values)));
            }
        }
        Ok(Self { axes, points, written: layer })
    }

    /// The recipe of the first point; all points share its model, seeds, device and metrics.
    pub fn recipe(&self) -> &Recipe {
        &self.points[0].recipe
    }

    /// Sets what is kept for the backward pass, at every point.
    pub fn set_recompute(&mut self, recompute: crate::settings::Keep) {
        for point in &mut self.points {
            point.recipe.settings.recompute = recompute;
        }
    }

    /// The experiment as a tree, as in `config.resolved.toml`.
    pub fn value(&self) -> Map<String, Value> {
        self.tree(Recipe::value_as)
    }

    /// What trained weights depend on; see [`Recipe::essence`].
    pub fn essence(&self) -> Map<String, Value> {
        self.tree(Recipe::essence_as)
    }

    /// As [`Experiment::essence`], without paths; the content of models and data is identified elsewhere.
    pub fn essence_by_content(&self) -> Map<String, Value> {
        self.tree(|recipe, form| {
            let mut shared = recipe.essence_as(form);
            shared.remove(crate::settings::WORLD);
            shared.remove("data");
            shared.remove("from");
            if let Some(Value::Object(model)) = shared.get_mut("model") {
                model.retain(|key, _| key == "dtype");
            }
            shared
        })
    }

    /// SHA-256 of [`Experiment::essence_by_content`], in hexadecimal.
    pub fn digest_by_content(&self) -> String {
        crate::recipe::digest(&Value::Object(self.essence_by_content()))
    }

    /// The axes, and the settings that `of` returns alike for all points. A setting in which points
    /// differ keeps its written value, because other methods have other defaults.
    fn tree(&self, of: impl Fn(&Recipe, Form) -> Map<String, Value>) -> Map<String, Value> {
        if self.axes.is_empty() {
            return of(self.recipe(), Form::Shortest);
        }
        // An axis refers to stages as they were written.
        let listed =
            self.written.get(LIST).is_some() || self.axes.iter().any(|axis| axis.key == LIST);
        let form = if listed { Form::List } else { Form::Shortest };
        let mut shared = of(self.recipe(), form);
        for point in &self.points[1..] {
            common(&mut shared, &of(&point.recipe, form), self.written.values());
        }
        if listed {
            // Settings that a stage takes from its kind's section are written there.
            for names in USUAL {
                if let Some(section) = self.written.get(names.training) {
                    shared.insert(names.training.into(), section.clone());
                }
            }
        }
        let axes = self.axes.iter();
        let axes = axes.map(|axis| (axis.key.clone(), Value::Array(axis.values.clone())));
        shared.insert(SECTION.into(), Value::Object(axes.collect()));
        shared
    }

    /// The experiment as TOML.
    pub fn toml(&self) -> String {
        // All values come from serde structs without nulls, so TOML can hold them.
        toml::to_string(&self.value()).unwrap_or_default()
    }
}

/// Checks that `axis` changes how some stage is trained, and nothing else: all runs of an experiment
/// share one model and one way of measuring.
///
/// # Errors
/// The broken rule.
fn varies_training(axis: &Axis, points: &[Point]) -> Result<(), String> {
    let mut firsts: HashMap<String, &Point> = HashMap::new();
    let mut acts = axis.values.len() < 2;
    for point in points {
        // Each point is compared with the first one that agrees on all other axes.
        let rest: Vec<_> = point.values.iter().filter(|(key, _)| *key != axis.key).collect();
        let first = &firsts.entry(json!(rest).to_string()).or_insert(point).recipe;
        let (one, other) = (shared(first), shared(&point.recipe));
        if let Some(name) = one.keys().find(|name| one.get(*name) != other.get(*name)) {
            return Err(format!(
                "must not change `{name}`, which all runs of an experiment share: make an experiment \
                 for each value"
            ));
        }
        acts |= trained(first) != trained(&point.recipe);
    }
    match acts {
        true => Ok(()),
        false => {
            Err("must change the training of some stage, but all its values give the same runs. \
                      Settings of measurements are the same for all runs, and a stage's own value \
                      overrides its section's"
                .to_owned())
        }
    }
}

/// Settings that all runs of an experiment share, by name.
fn shared(recipe: &Recipe) -> BTreeMap<String, Value> {
    let object = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let settings = object(json!(recipe.settings)).into_iter();
    let model = object(json!(recipe.model)).into_iter();
    let model = model.map(|(key, value)| (format!("model.{key}"), value));
    let metrics = recipe.metrics.iter().map(Chosen::value).collect();
    let judges = recipe.judges.iter().map(Chosen::value).collect();
    let measured = [("metrics".to_owned(), metrics), ("judges".to_owned(), judges)];
    settings.chain(model).chain(measured).collect()
}

/// Settings that an axis may change: the stages and their training samples.
fn trained(recipe: &Recipe) -> Value {
    let stages: Vec<_> = recipe.pipeline.iter().map(|stage| stage.value()).collect();
    json!([stages, recipe.data.name, recipe.training_data()])
}

/// Keeps values in `shared` that `other` has too; the rest returns to its `written` value, if any.
fn common(
    shared: &mut Map<String, Value>,
    other: &Map<String, Value>,
    written: &Map<String, Value>,
) {
    shared.retain(|key, value| {
        let (other, written) = (other.get(key), written.get(key));
        if other == Some(value) {
            return true;
        }
        if let (Value::Object(value), Some(Value::Object(other))) = (&mut *value, other) {
            let differs = |key: &str| value.get(key) != other.get(key);
            // Another method or adapter type has completely different settings.
            if !WHOLE.contains(&key.as_str()) && !["name", "type"].into_iter().any(differs) {
                let empty = Map::new();
                let written = written.and_then(Value::as_object).unwrap_or(&empty);
                common(value, other, written);
                return true;
            }
        }
        if let (Value::Array(items), Some(Value::Array(others)), Some(Value::Array(written))) =
            (&mut *value, other, written)
            && key == LIST
            && items.len() == others.len()
            && items.len() == written.len()
        {
            for ((item, other), written) in items.iter_mut().zip(others).zip(written) {
                if let (Value::Object(item), Value::Object(other), Value::Object(written)) =
                    (item, other, written)
                {
                    common(item, other, written);
                }
            }
            return true;
        }
        match written {
            Some(written) => {
                *value = written.clone();
                true
            }
            None => false,
        }
    });
}

/// The axes in `table`: a list is an axis, a table contains further ones.
fn axes(layer: &Layer, path: &str, key: &str, table: &Map<String, Value>) -> Result<Vec<Axis>> {
    let mut all = Vec::new();
    for (name, value) in table {
        let place = format!("{path}.{name}");
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let wrong = |rule: &str| Err(Error::setting(layer.place(&place), &place, rule, value));
        match value {
            Value::Object(table) => all.extend(axes(layer, &place, &key, table)?),
            Value::Array(_) if LISTS.contains(&key.as_str()) => {
                return wrong("is a list already: write it outside of `axes`");
            }
            Value::Array(values) if values.is_empty() => {
                return wrong("must list at least one value");
            }
            Value::Array(values) => {
                let twice = |(index, value): (usize, &Value)| values[..index].contains(value);
                if values.iter().enumerate().any(twice) {
                    return wrong("must not list a value twice");
                }
                all.push(Axis { key, values: values.clone() });
            }
            _ => return wrong("must be a list of values"),
        }
    }
    Ok(all)
}
