//! What the embedded world sets otherwise than the plugins and the paper do.
//!
//! `rho` is a norm over a whole batch, so it depends on batch size, depth and length; the penalty
//! of EWC must outweigh gradients that alignment has made tiny. The published values do nothing in
//! a model of a quarter of a million weights. Both are always shown side by side.

use serde_json::{Map, Value, json};

use crate::layer::{Layer, Place};
use crate::settings::Profile;

/// A plugin's setting for which the embedded world has a default of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PluginDefault {
    /// The kind of plugin, as the registry calls it.
    pub kind: &'static str,
    /// The plugin.
    pub plugin: &'static str,
    /// The setting.
    pub key: &'static str,
    /// The world's value.
    pub value: f64,
}

/// All settings of plugins that the embedded world sets otherwise.
pub const PLUGINS: [PluginDefault; 3] = [
    PluginDefault { kind: "perturber", plugin: "vaccine", key: "rho", value: 5.0 },
    PluginDefault { kind: "perturber", plugin: "gaussian", key: "rho", value: 5.0 },
    PluginDefault { kind: "defense", plugin: "ewc", key: "lambda", value: 1e8 },
];

/// The world's own defaults for the plugin `name`.
pub fn of_plugin(kind: &str, name: &str) -> Map<String, Value> {
    let own = PLUGINS.iter().filter(|own| own.kind == kind && own.plugin == name);
    own.map(|own| (own.key.to_owned(), json!(own.value))).collect()
}

/// What a profile sets; the rest is at the sections' own defaults.
pub fn of_profile(profile: Profile) -> Layer {
    let (benign_share, learning_rate) = match profile {
        Profile::Paper => (0.0, 1.25e-4),
        Profile::Helpful => (0.1, 8e-5),
    };
    let values = Map::from_iter([
        ("world".to_owned(), json!({ "benign_share": benign_share })),
        ("fine_tuning".to_owned(), json!({ "learning_rate": learning_rate, "epochs": 4 })),
    ]);
    Layer::of(values, &Place::Default)
}

/// The training settings of the paper, which hold unless a recipe for files says otherwise.
///
/// The alignment adapter's alpha is 4 in the paper's experiments and 1 in its present code.
pub fn of_paper() -> Layer {
    Layer::of(paper(), &Place::Default)
}

fn paper() -> Map<String, Value> {
    let stage = |alpha: f64, rate: f64, epochs: u64| {
        json!({
            "trainable": { "type": "lora", "rank": 8, "alpha": alpha, "dropout": 0.1 },
            "learning_rate": rate, "epochs": epochs, "batch_size": 5, "weight_decay": 0.1,
        })
    };
    Map::from_iter([
        ("alignment".to_owned(), stage(4.0, 1e-3, 50)),
        ("fine_tuning".to_owned(), stage(1.0, 1e-5, 20)),
    ])
}

/// The paper's settings that the embedded world does not follow: key and the paper's value.
pub fn unlike_paper() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (section, settings) in paper() {
        for (key, value) in settings.as_object().into_iter().flatten() {
            all.push((format!("{section}.{key}"), value.clone()));
        }
    }
    all.push(("world.alignment_samples".to_owned(), json!(2000)));
    all.push(("world.user_samples".to_owned(), json!(1000)));
    all
}
