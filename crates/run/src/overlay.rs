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

/// The paper's training settings that this world does not follow: key and the paper's value.
///
/// The alignment adapter's alpha is 4 in the paper's experiments and 1 in its present code.
pub fn of_paper() -> Vec<(&'static str, Value)> {
    let lora = |alpha: f64| json!({ "type": "lora", "rank": 8, "alpha": alpha });
    vec![
        ("alignment.trainable", lora(4.0)),
        ("alignment.epochs", json!(50)),
        ("alignment.batch_size", json!(5)),
        ("alignment.weight_decay", json!(0.1)),
        ("fine_tuning.trainable", lora(1.0)),
        ("fine_tuning.learning_rate", json!(1e-5)),
        ("fine_tuning.epochs", json!(20)),
        ("fine_tuning.batch_size", json!(5)),
        ("fine_tuning.weight_decay", json!(0.1)),
        ("world.alignment_samples", json!(2000)),
        ("world.user_samples", json!(1000)),
    ]
}
