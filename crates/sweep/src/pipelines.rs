//! Recipes of which a sweep varies the pipeline.

use serde_json::{Map, Value, json};
use vxf_recipe::{Experiment, Layer, Place, StageRecipe, USUAL};

use crate::Result;

/// The stages of a recipe's pipeline, as tables of its list of stages.
pub(crate) fn stages(experiment: &Experiment) -> Vec<Map<String, Value>> {
    experiment.recipe().pipeline.iter().map(StageRecipe::value).collect()
}

/// What the pipelines of a sweep share: the settings in `layer` without its stages, and plain alignment
/// beside each pipeline.
pub(crate) fn shared(mut layer: Layer) -> Result<Layer> {
    for names in USUAL {
        for key in [names.defense, names.perturber, names.training] {
            layer.take(key);
        }
    }
    layer.take("stage");
    layer.set("baseline", json!(true), Place::Default)?;
    layer.set("undefended", json!(false), Place::Default)?;
    Ok(layer)
}
