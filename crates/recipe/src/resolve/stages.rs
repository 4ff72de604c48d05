//! Resolves the pipeline: the usual sections, or a list of stages.

use serde_json::{Map, Value, json};
use vxf_core::Stage;
use vxf_core::config::PerturberConfig;

use super::plugin::{method, plugin};
use super::sections::{USUAL, UsualStage, table, training};
use crate::layer::Layer;
use crate::stage::StageRecipe;
use crate::{Error, Result};

/// The list of stages.
pub(super) const LIST: &str = "stage";

/// Keys of a listed stage that are not training settings.
const OWN: [&str; 4] = ["kind", "set", "defense", "perturber"];

/// The stages of a recipe, in order.
pub(super) fn pipeline(layer: &Layer, embedded: bool) -> Result<Vec<StageRecipe>> {
    match layer.get(LIST) {
        None => usual(layer, embedded),
        Some(Value::Array(items)) => {
            let sections = USUAL.iter().flat_map(|names| [names.defense, names.perturber]);
            if let Some(section) = sections.into_iter().find(|name| layer.get(name).is_some()) {
                let rule =
                    "cannot be combined with a list of stages: write it into its `[[stage]]`";
                let found = layer.get(section).unwrap_or(&Value::Null);
                return Err(Error::setting(layer.place(section), section, rule, found));
            }
            let count = items.len();
            (0..count).map(|index| listed(layer, index, embedded)).collect()
        }
        Some(other) => {
            let rule = "must be a list of tables: write `[[stage]]` above each";
            Err(Error::setting(layer.place(LIST), LIST, rule, other))
        }
    }
}

fn usual(layer: &Layer, embedded: bool) -> Result<Vec<StageRecipe>> {
    let mut stages = Vec::new();
    for UsualStage { kind, defense, perturber, training: section, set, method: default } in USUAL {
        if default.is_none() && layer.get(defense).is_none() {
            if let Some(key) = [perturber, section].into_iter().find(|key| layer.get(key).is_some())
            {
                let rule = format!("needs `{defense}`, the method of that stage");
                let found = layer.get(key).unwrap_or(&Value::Null);
                return Err(Error::setting(layer.place(key), key, rule, found));
            }
            continue;
        }
        let methods = method(layer, defense, default.unwrap_or_default(), kind, embedded)?;
        let own = StageRecipe::own_perturber(&methods);
        let perturber = plugin::<dyn PerturberConfig>(layer, perturber, Some(own), embedded)?;
        let training = training(layer, section, &[])?;
        if stages.is_empty() {
            continues_nothing(layer, section, training.continue_adapter)?;
        }
        stages.push(StageRecipe { kind, set: set.to_owned(), methods, perturber, training });
    }
    Ok(stages)
}

fn continues_nothing(layer: &Layer, path: &str, continues: bool) -> Result<()> {
    let key = format!("{path}.continue_adapter");
    let rule = "needs an earlier stage: the first one has no adapter to continue";
    match continues {
        true => Err(Error::setting(layer.place(&key), &key, rule, "true")),
        false => Ok(()),
    }
}

fn listed(layer: &Layer, index: usize, embedded: bool) -> Result<StageRecipe> {
    let path = format!("{LIST}.{index}");
    let own = table(layer, &path)?;
    let key = |name: &str| format!("{path}.{name}");
    let wrong = |name: &str, rule: &str, found: &Value| {
        Err(Error::setting(layer.place(&key(name)), &key(name), rule, found))
    };
    let kind = own.get("kind").unwrap_or(&Value::Null);
    let Some(kind) = kind.as_str().and_then(|kind| kind.parse::<Stage>().ok()) else {
        let kinds = USUAL.map(|usual| usual.kind.to_string()).join(", ");
        return wrong("kind", &format!("must be one of {kinds}"), kind);
    };
    let usual = UsualStage::of(kind);
    let set = match own.get("set") {
        None => usual.set.to_owned(),
        Some(Value::String(set)) => set.clone(),
        Some(other) => return wrong("set", "must be the name of a set", other),
    };
    // The defaults of the section of this kind apply to each of its stages.
    let mut full: Map<String, Value> = own.clone();
    for (name, value) in table(layer, usual.training)? {
        full.entry(name).or_insert(value);
    }
    let mut layer = layer.clone();
    let place = layer.place(&path);
    layer.fill(&path, full, &place);
    if usual.method.is_none() && own.get("defense").is_none() {
        return wrong("defense", "must name the method", &json!(null));
    }
    let default = usual.method.unwrap_or_default();
    let methods = method(&layer, &key("defense"), default, kind, embedded)?;
    let inner = StageRecipe::own_perturber(&methods);
    let perturber =
        plugin::<dyn PerturberConfig>(&layer, &key("perturber"), Some(inner), embedded)?;
    let training = training(&layer, &path, &OWN)?;
    if index == 0 {
        continues_nothing(&layer, &path, training.continue_adapter)?;
    }
    Ok(StageRecipe { kind, set, methods, perturber, training })
}

/// The stages of a baseline: `defense` in alignment, plain fine-tuning, and no post-tuning. It is attacked as
/// the others are.
///
/// # Errors
/// When a baseline method is not registered.
pub fn baseline(stages: &[StageRecipe], defense: &str, embedded: bool) -> Result<Vec<StageRecipe>> {
    let empty = Layer::new();
    let mut plain = Vec::new();
    for stage in stages {
        if stage.is_attack() {
            plain.push(stage.clone());
            continue;
        }
        let Some(name) = stage.baseline_method(defense) else { continue };
        let methods = method(&empty, "defense", name, stage.kind, embedded)?;
        let own = StageRecipe::own_perturber(&methods);
        let perturber = plugin::<dyn PerturberConfig>(&empty, "perturber", Some(own), embedded)?;
        plain.push(StageRecipe { methods, perturber, ..stage.clone() });
    }
    Ok(plain)
}
