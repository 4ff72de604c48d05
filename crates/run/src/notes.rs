//! What a reader must know about the embedded world's numbers, told where they are shown.

use serde_json::Value;
use vxf_core::config::{DefenseConfig, PerturberConfig};
use vxf_core::registry::{self, Entry, Kind};

use vxf_recipe::overlay;
use vxf_recipe::{Data, Recipe};

/// The limits of what this world can show.
pub const LIMITS: [&str; 5] = [
    "Vaccine does not beat EWC or KL in this world: plain alignment with `--fine-tune-defense ewc` \
     or `kl` holds the harmful score lower still, at one or two points more of accuracy.",
    "Vaccine costs a little accuracy, from a fraction of a point to about two.",
    "The effect shows in a window of the user's learning rate about a factor of two wide: below \
     it every model holds, above it every model breaks.",
    "Where a defence begins to give way, seeds differ by 10 to 20 points of harmful score (one \
     standard deviation); the refusal margin is steadier.",
    "Absolute drift compares models of different scale, as Vaccine enlarges activations; the \
     relative figure divides that out.",
];

/// A setting that this experiment leaves at the world's own default, which is not the paper's.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Its key.
    pub key: String,
    /// The world's value, as used.
    pub here: Value,
    /// The paper's, or the plugin's own default.
    pub paper: Value,
}

/// Where the embedded world, as run, departs from the paper; `vxf diff` does it for files.
pub fn deviations(recipe: &Recipe) -> Vec<Deviation> {
    if matches!(recipe.data, Data::Files(_)) {
        return Vec::new();
    }
    let values = recipe.value();
    let mut found = Vec::new();
    let alignment = &recipe.alignment_method;
    plugin::<dyn PerturberConfig>("perturber", alignment.perturber.name, &values, &mut found);
    plugin::<dyn DefenseConfig>("defense", alignment.defense.name, &values, &mut found);
    let user = recipe.fine_tuning_method.defense.name;
    plugin::<dyn DefenseConfig>("fine_tune_defense", user, &values, &mut found);
    for (key, paper) in overlay::unlike_paper() {
        let Some(here) = at(&values, &key) else { continue };
        if !agrees(here, &paper) {
            found.push(Deviation { key, here: here.clone(), paper });
        }
    }
    found
}

fn plugin<C: Kind + ?Sized>(
    section: &str,
    name: &str,
    values: &serde_json::Map<String, Value>,
    found: &mut Vec<Deviation>,
) {
    let Ok(entry) = registry::find::<C>(name) else { return };
    let entry: &Entry<C> = entry;
    let settings = (entry.settings)();
    for (key, _) in overlay::of_plugin(C::NAME, name) {
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

fn at<'a>(values: &'a serde_json::Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = values.get(parts.next()?)?;
    parts.try_fold(first, |at, part| at.get(part))
}

/// Numbers agree by value, tables where the paper's keys do.
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
