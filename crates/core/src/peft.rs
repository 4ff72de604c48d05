//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device};
use serde::Deserialize;

use crate::{Error, Lora, Params, Result};

const PREFIX: &str = "base_model.model.";

#[derive(Deserialize)]
struct AdapterConfig {
    peft_type: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Reads the adapter in the directory `path`: its settings and its tensors under our names
/// (`<module>.lora_A`, `<module>.lora_B`).
///
/// # Errors
/// When a file is missing or broken, or the adapter is of a kind that is not supported.
pub fn read(path: &Path, dtype: DType, device: &Device) -> Result<(Lora, Params)> {
    let file = path.join("adapter_config.json");
    let fail = |file: &Path, problem: String| Error::Checkpoint {
        path: file.display().to_string(),
        problem,
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| fail(&file, format!("cannot be read: {error}")))?;
    let config: AdapterConfig =
        serde_json::from_str(&text).map_err(|error| fail(&file, error.to_string()))?;
    if config.peft_type != "LORA" {
        return Err(fail(&file, format!("`peft_type` must be LORA, got {}", config.peft_type)));
    }
    let set = |key: &str| config.rest.get(key).filter(|value| !is_nothing(value));
    for key in ["rank_pattern", "alpha_pattern", "modules_to_save", "use_dora", "fan_in_fan_out"] {
        if let Some(value) = set(key) {
            return Err(fail(&file, format!("`{key}` is not supported, got {value}")));
        }
    }
    if let Some(bias) = set("bias").filter(|bias| *bias != "none") {
        return Err(fail(&file, format!("`bias` must be none, got {bias}")));
    }
    let number = |key: &str| {
        let value = config.rest.get(key).and_then(serde_json::Value::as_f64);
        value.ok_or_else(|| fail(&file, format!("`{key}` is missing or no number")))
    };

    let tensors_file = path.join("adapter_model.safetensors");
    let tensors = candle_core::safetensors::load(&tensors_file, device)
        .map_err(|error| fail(&tensors_file, format!("cannot be read: {error}")))?;
    let mut weights = Params::new();
    let mut modules = std::collections::BTreeSet::new();
    for (key, tensor) in tensors {
        let name = key.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".weight"));
        let module = name
            .and_then(|name| name.strip_suffix(".lora_A").or_else(|| name.strip_suffix(".lora_B")));
        let (Some(name), Some(module)) = (name, module) else {
            return Err(fail(&tensors_file, format!("`{key}` is no LoRA tensor in PEFT's naming")));
        };
        modules.insert(module.rsplit('.').next().unwrap_or(module).to_owned());
        weights.insert(name, tensor.to_dtype(dtype)?);
    }
    let lora = Lora {
        rank: number("r")? as usize,
        alpha: number("lora_alpha")?,
        dropout: number("lora_dropout").unwrap_or(0.0),
        use_rslora: set("use_rslora").is_some(),
        target_modules: modules.into_iter().collect(),
    };
    lora.validate()?;
    Ok((lora, weights))
}

fn is_nothing(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Writes an adapter so that PEFT loads it.
///
/// # Errors
/// When the directory cannot be written.
pub fn write(path: &Path, lora: &Lora, weights: &Params) -> Result<()> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io { path, source }
    };
    std::fs::create_dir_all(path).map_err(io(path))?;
    let config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.use_rslora,
        "target_modules": lora.target_modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
    });
    let file = path.join("adapter_config.json");
    std::fs::write(&file, format!("{config:#}\n")).map_err(io(&file))?;
    let tensors: HashMap<_, _> = weights
        .iter()
        .map(|(name, tensor)| (format!("{PREFIX}{name}.weight"), tensor.detach()))
        .collect();
    candle_core::safetensors::save(&tensors, path.join("adapter_model.safetensors"))?;
    Ok(())
}
