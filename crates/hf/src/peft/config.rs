//! Reads `adapter_config.json` and refuses unsupported settings.

use std::path::Path;

use serde_json::{Map, Value};

use super::fail;
use vxf_core::{Lora, Result};

/// Keys that do not change what the finished adapter computes.
const HARMLESS: [&str; 21] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// Initialisations that leave the base unchanged. Others (PiSSA, OLoRA, LoftQ, ...) change it, and the
/// adapter then belongs to the changed base.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// The settings of a supported adapter.
pub(super) struct AdapterConfig {
    pub(super) rank: usize,
    alpha: f64,
    dropout: f64,
    use_rslora: bool,
    /// The target modules, if they are a plain list that no other key narrows.
    targets: Option<Vec<String>>,
}

impl AdapterConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or a key asks for something unsupported.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = vxf_untrusted::text(file, vxf_untrusted::SMALL)
            .map_err(|error| fail(file, format!("cannot be read: {error}")))?;
        let config: Map<String, Value> =
            vxf_untrusted::json(&text).map_err(|problem| fail(file, problem))?;
        Self::of(&config).map_err(|problem| fail(file, problem))
    }

    fn of(config: &Map<String, Value>) -> Result<Self, String> {
        let set = |key: &str| config.get(key).filter(|value| !is_nothing(value));
        for (key, value) in config.iter().filter(|(_, value)| !is_nothing(value)) {
            let fine = match key.as_str() {
                "peft_type" => value == "LORA",
                "bias" => value == "none",
                "use_rslora" => value.is_boolean(),
                "init_lora_weights" => {
                    value.is_boolean()
                        || value.as_str().is_some_and(|it| PLAIN_STARTS.contains(&it))
                }
                key => HARMLESS.contains(&key),
            };
            if !fine {
                return Err(format!("`{key}` = {value} is not supported"));
            }
        }
        if set("peft_type").is_none() {
            return Err("`peft_type` is missing; it must be LORA".to_owned());
        }
        let number = |key: &str| {
            let value = config.get(key).and_then(Value::as_f64);
            value.ok_or_else(|| format!("`{key}` is missing or not a number"))
        };
        let rank = config.get("r").and_then(Value::as_u64).filter(|rank| *rank > 0);
        let narrowed = ["layers_to_transform", "layers_pattern", "exclude_modules"];
        let list = set("target_modules").and_then(Value::as_array);
        let names = list.and_then(|list| {
            list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        Ok(Self {
            rank: rank.ok_or("`r` is missing or not a whole number above 0")? as usize,
            alpha: number("lora_alpha")?,
            dropout: if set("lora_dropout").is_some() { number("lora_dropout")? } else { 0.0 },
            use_rslora: set("use_rslora").is_some(),
            targets: names.filter(|_| narrowed.into_iter().all(|key| set(key).is_none())),
        })
    }

    /// Converts to our settings, for an adapter on these modules.
    pub(super) fn lora(self, modules: Vec<String>) -> Lora {
        let Self { rank, alpha, dropout, use_rslora, targets } = self;
        let lora = Lora { rank, alpha, dropout, use_rslora, target_modules: modules.clone() };
        match targets {
            Some(targets) => {
                let plain = Lora { target_modules: targets, ..lora.clone() };
                if modules.iter().all(|module| plain.targets(module)) { plain } else { lora }
            }
            None => lora,
        }
    }
}

/// Whether a value leaves its feature off.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
