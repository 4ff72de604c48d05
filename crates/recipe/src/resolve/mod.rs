//! Resolves layers of settings to complete recipes.

mod axes;
mod plugin;
pub(crate) mod sections;
mod stages;

use std::sync::Arc;

use serde_json::{Value, json};
use vxf_core::config::{JudgeConfig, MetricConfig};
use vxf_core::registry::{self, Entry};
use vxf_data::{DataConfig, Purpose};

pub use axes::{Axis, Experiment, Point};
pub use plugin::{Worldly, world_defaults};
pub use sections::{SECTIONS, USUAL, UsualStage};
pub use stages::baseline;

use crate::layer::{Layer, Place};
use crate::recipe::{Chosen, Recipe, SCHEMA_VERSION};
use crate::settings::{EMBEDDED, FILES, ModelSettings, WORLD};
use crate::{Error, Result};
use plugin::{configured, plugins};
use sections::{VERSION, check, section, table, top_level};

/// What is measured unless a recipe says otherwise: the paper's four figures, and how far a model
/// still helps, where the data has harmless requests.
pub fn default_metrics(data: &dyn DataConfig) -> Vec<&'static str> {
    let helpfulness = data.has(Purpose::Prompts, "benign").then_some("helpfulness");
    ["harmful-score"]
        .into_iter()
        .chain(helpfulness)
        .chain(["accuracy", "alignment-loss", "drift"])
        .collect()
}

/// The same for settings that are not resolved yet.
///
/// # Errors
/// When the section of the data cannot be read.
pub fn default_metrics_of(layer: &Layer) -> Result<Vec<&'static str>> {
    Ok(default_metrics(&*data(&layer.clone().spelled_out()?)?.config))
}

/// Fills in defaults, reads every section and checks all rules that need no model. Axes must be removed
/// before; [`Experiment::of`] does that.
///
/// # Errors
/// On an unknown key or name, a wrong type, a value out of range, or a method in the wrong stage, with
/// its location.
pub fn resolve(layer: Layer) -> Result<Recipe> {
    let layer = layer.spelled_out()?;
    known_version(&layer)?;
    // A source's settings decide other defaults, so it is read before and after they are applied.
    let mut defaults = data(&layer)?.config.defaults();
    // A source that `data` names has its settings there.
    if layer.get("data").is_some()
        && let Some(own) = defaults.shift_remove(WORLD)
    {
        defaults.insert("data".to_owned(), own);
    }
    let layer = layer.over(Layer::of(defaults, &Place::Default));
    let data = data(&layer)?;

    let settings = top_level(&layer)?;
    let model: ModelSettings = section(&layer, "model")?;
    let embedded = model.path == EMBEDDED;
    let pipeline = stages::pipeline(&layer, embedded)?;

    if !pipeline.iter().any(|stage| settings.stages.include(stage.kind)) {
        let rule = "must be stages with a method: there is none for post-tuning (add \
                    `--post-tune-defense NAME`)";
        return Err(Error::setting(layer.place("stages"), "stages", rule, json!(settings.stages)));
    }

    let usual = default_metrics(&*data.config);
    let metrics = plugins::<dyn MetricConfig>(&layer, "metrics", &usual, embedded)?;
    let judges = plugins::<dyn JudgeConfig>(&layer, "judges", &[data.config.judge()], embedded)?;
    let measured: Vec<_> = metrics.iter().map(|metric| metric.name.to_owned()).collect();
    for (index, name) in settings.detail.iter().enumerate() {
        if !measured.contains(name) {
            let path = format!("detail.{index}");
            let rule = format!("must be one of the metrics ({})", measured.join(", "));
            return Err(Error::setting(layer.place(&path), &path, rule, name));
        }
    }
    Ok(Recipe { settings, model, data, pipeline, metrics, judges })
}

fn known_version(layer: &Layer) -> Result<()> {
    let Some(found) = layer.get(VERSION) else { return Ok(()) };
    match found.as_u64() {
        Some(version) if version <= u64::from(SCHEMA_VERSION) => Ok(()),
        _ => {
            let rule = format!(
                "must be at most {SCHEMA_VERSION}, the newest version that this program reads"
            );
            Err(Error::setting(layer.place(VERSION), VERSION, rule, found))
        }
    }
}

/// The data source: the one in `data`, or else the embedded world.
fn data(layer: &Layer) -> Result<Chosen<dyn DataConfig>> {
    let (section, name) = match (layer.get("data"), layer.get(WORLD)) {
        (Some(_), Some(world)) => {
            let rule = "applies only to the embedded world, but `data` names another source";
            // A flag such as `--task` sets a key of it.
            let key = world.as_object().and_then(|world| world.keys().next());
            let key = key.map_or(WORLD.to_owned(), |key| format!("{WORLD}.{key}"));
            return Err(Error::setting(layer.place(&key), WORLD, rule, world));
        }
        (Some(data), None) => match data.get("source") {
            None => ("data", FILES.to_owned()),
            Some(Value::String(name)) => ("data", name.clone()),
            Some(other) => {
                let rule = "must be the name of a data source";
                let key = "data.source";
                return Err(Error::setting(layer.place(key), key, rule, other));
            }
        },
        (None, _) => (WORLD, WORLD.to_owned()),
    };
    let mut settings = table(layer, section)?;
    settings.shift_remove("source");
    let entry: &Entry<dyn DataConfig> =
        registry::find::<dyn DataConfig>(&name).map_err(|source| Error::Name {
            place: layer.place("data.source"),
            source: Box::new(source),
        })?;
    let config = configured(layer, section, entry, settings)?;
    check(layer, section, config.validate())?;
    Ok(Chosen { name: entry.name, config: Arc::from(config) })
}
