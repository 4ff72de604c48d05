//! Reads plugins with their settings.

use std::sync::Arc;

use serde_json::{Map, Value};
use vxf_core::Stage;
use vxf_core::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig};
use vxf_core::registry::{self, Entry, Kind};
use vxf_data::DataConfig;

use super::sections::{placed, unknown};
use crate::layer::Layer;
use crate::recipe::Chosen;
use crate::{Error, Result};

/// A kind of plugin that may have other defaults in the embedded world, and ranges to search.
pub trait Worldly: Kind {
    /// Those defaults.
    fn world_defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Those ranges.
    fn ranges(&self) -> &'static [&'static str] {
        &[]
    }
}

impl Worldly for dyn DefenseConfig {
    fn world_defaults(&self) -> Map<String, Value> {
        DefenseConfig::world_defaults(self)
    }

    fn ranges(&self) -> &'static [&'static str] {
        DefenseConfig::ranges(self)
    }
}

impl Worldly for dyn PerturberConfig {
    fn world_defaults(&self) -> Map<String, Value> {
        PerturberConfig::world_defaults(self)
    }

    fn ranges(&self) -> &'static [&'static str] {
        PerturberConfig::ranges(self)
    }
}

impl Worldly for dyn MetricConfig {}
impl Worldly for dyn JudgeConfig {}
impl Worldly for dyn DataConfig {}

/// The embedded world's defaults for the plugin `name`.
///
/// # Errors
/// When there is no such plugin.
pub fn world_defaults<C: Worldly + ?Sized>(name: &str) -> Result<Map<String, Value>> {
    Ok(registry::default_of::<C>(name)?.world_defaults())
}

/// Reads the plugin at `path`; `default` is its name if none is given. In the embedded world, the world's
/// defaults apply.
pub(super) fn plugin<C: Worldly + ?Sized>(
    layer: &Layer,
    path: &str,
    default: Option<&str>,
    embedded: bool,
) -> Result<Chosen<C>> {
    let wrong = |key: &str, rule: &str, found: &Value| {
        Err(Error::setting(layer.place(key), key, rule, found))
    };
    let mut settings = match layer.get(path).cloned() {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(name @ Value::String(_)) => Map::from_iter([("name".to_owned(), name)]),
        Some(other) => return wrong(path, "must be a name, or a table with a `name`", &other),
    };
    let name_path = format!("{path}.name");
    let name = match (settings.remove("name"), default) {
        (Some(Value::String(name)), _) => name,
        (Some(other), _) => return wrong(&name_path, "must be a name", &other),
        (None, Some(default)) => default.to_owned(),
        (None, None) => return wrong(path, "needs a `name`", &Value::Object(settings)),
    };
    let entry: &Entry<C> = registry::find::<C>(&name).map_err(|source| Error::Name {
        place: layer.place(&name_path),
        source: Box::new(source),
    })?;
    if embedded {
        for (key, value) in world_defaults::<C>(entry.name)? {
            settings.entry(key).or_insert(value);
        }
    }
    let config = configured(layer, path, entry, settings)?;
    Ok(Chosen { name: entry.name, config: Arc::from(config) })
}

/// The configuration of `entry` from the settings at `path`.
pub(super) fn configured<C: Kind + ?Sized>(
    layer: &Layer,
    path: &str,
    entry: &Entry<C>,
    settings: Map<String, Value>,
) -> Result<Box<C>> {
    let known: Vec<_> = (entry.settings)().iter().map(|one| one.name.to_owned()).collect();
    if let Some(key) = settings.keys().find(|key| !known.contains(key)) {
        return Err(unknown(layer, &format!("{path}.{key}"), key, &known));
    }
    (entry.parse)(Value::Object(settings)).map_err(|problem| placed(layer, path, problem))
}

/// Reads the plugins in the list `key`; without the list, those called `default`.
pub(super) fn plugins<C: Worldly + ?Sized>(
    layer: &Layer,
    key: &str,
    default: &[&str],
    embedded: bool,
) -> Result<Vec<Chosen<C>>> {
    let count = match layer.get(key) {
        None => {
            let empty = Layer::new();
            let own = |name: &&str| plugin::<C>(&empty, key, Some(name), embedded);
            return default.iter().map(own).collect();
        }
        Some(Value::Array(items)) => items.len(),
        Some(other) => {
            let rule = "must be a list of names, or of tables with a `name`";
            return Err(Error::setting(layer.place(key), key, rule, other));
        }
    };
    let mut chosen: Vec<Chosen<C>> = Vec::new();
    for index in 0..count {
        let path = format!("{key}.{index}");
        let plugin = plugin::<C>(layer, &path, None, embedded)?;
        if chosen.iter().any(|known| known.name == plugin.name) {
            let rule = "must not be listed twice";
            return Err(Error::setting(layer.place(&path), &path, rule, plugin.name));
        }
        chosen.push(plugin);
    }
    Ok(chosen)
}

/// Reads a method: a name, a table, a composition such as `lisa+ema`, or a list of members.
///
/// # Errors
/// When a member is not made for the stage, or two of them compute the gradient.
pub(super) fn method(
    layer: &Layer,
    path: &str,
    default: &str,
    stage: Stage,
    embedded: bool,
) -> Result<Vec<Chosen<dyn DefenseConfig>>> {
    let layer = &spelled_out(layer, path)?;
    let methods = match layer.get(path) {
        Some(Value::Array(_)) => plugins::<dyn DefenseConfig>(layer, path, &[], embedded)?,
        _ => vec![plugin::<dyn DefenseConfig>(layer, path, Some(default), embedded)?],
    };
    if methods.is_empty() {
        return Err(Error::setting(layer.place(path), path, "must name at least one method", "[]"));
    }
    for method in &methods {
        in_stage(layer, path, method.name, stage)?;
    }
    let mut makers = methods.iter().filter(|method| method.config.makes_gradient());
    if let (Some(first), Some(second)) = (makers.next(), makers.next()) {
        let place = layer.place(path);
        let (first, second) = (first.name.to_owned(), second.name.to_owned());
        return Err(Error::TwoMakers { place, first, second });
    }
    Ok(methods)
}

/// Rewrites a composition `a+b` at `path` as a list of names.
fn spelled_out(layer: &Layer, path: &str) -> Result<Layer> {
    let named = layer.text(path).or_else(|| layer.text(&format!("{path}.name")));
    let Some(text) = named.filter(|text| text.contains('+')) else { return Ok(layer.clone()) };
    let names: Vec<_> = text.split('+').map(|name| Value::from(name.trim())).collect();
    let settings = layer.get(path).and_then(Value::as_object);
    if let Some(key) = settings.and_then(|map| map.keys().find(|key| *key != "name")) {
        let key = format!("{path}.{key}");
        let rule =
            "cannot be assigned to a member: list the members as tables, each with its settings";
        return Err(Error::setting(layer.place(&key), &key, rule, text));
    }
    let mut layer = layer.clone();
    let place = layer.place(&format!("{path}.name"));
    layer.set(path, names.into(), place)?;
    Ok(layer)
}

fn in_stage(layer: &Layer, path: &str, name: &str, stage: Stage) -> Result<()> {
    let entry = registry::find::<dyn DefenseConfig>(name)?;
    if entry.stages.contains(&stage) {
        return Ok(());
    }
    Err(Error::WrongStage {
        place: layer.place(&format!("{path}.name")),
        name: name.to_owned(),
        belongs: entry.stages.to_vec(),
        stage,
    })
}
