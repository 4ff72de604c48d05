//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

mod config;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use vxf_core::{Backbone, Error, Lora, Params, Result, Trainable};
use vxf_tensor::numeric::not_finite;

use crate::checkpoint::{Shard, is_weight};

use config::AdapterConfig;

const PREFIX: &str = "base_model.model.";

/// The infix that PEFT adds to tensor names while the adapter is in memory.
const INFIX: &str = ".default";

fn fail(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.display().to_string(), problem }
}

/// Reads the adapter in the directory `path`: its settings and its tensors under our names
/// (`<module>.lora_A`, `<module>.lora_B`), converted to `dtype`.
///
/// Where the settings do not list the target layers (a regular expression, selected layers), they are
/// derived from the tensors, and [`Lora::target_modules`] lists each by its full name.
///
/// # Errors
/// When a file is missing or invalid, a matrix lacks its partner or has another rank, or the
/// adapter is of an unsupported kind.
pub fn read(path: &Path, dtype: DType, device: &Device) -> Result<(Lora, Params)> {
    let config = AdapterConfig::read(&path.join("adapter_config.json"))?;
    let file = tensors_file(path)?;
    let shard = Shard::open(&file)?;
    let mut weights = Params::new();
    let mut modules: BTreeMap<String, [Option<Vec<usize>>; 2]> = BTreeMap::new();
    for key in shard.names() {
        let Some((module, matrix)) = parse(&key) else {
            return Err(fail(&file, format!("`{key}` is not a LoRA tensor in PEFT's naming")));
        };
        let info = shard.info(&key);
        let Some(info) = info.filter(|info| is_weight(info.dtype)) else {
            return Err(fail(&file, format!("`{key}` must be stored as F32, F16, BF16 or F64")));
        };
        let tensor = shard.read(&key).map_err(|error| fail(&file, format!("`{key}`: {error}")))?;
        if let Some(value) = not_finite(&tensor)? {
            return Err(fail(&file, format!("`{key}` holds {value}; weights must be finite")));
        }
        let name = [Lora::a_of(module), Lora::b_of(module)][matrix].clone();
        modules.entry(module.to_owned()).or_default()[matrix] = Some(info.shape);
        weights.insert(name, tensor.to_device(device)?.to_dtype(dtype)?);
    }
    for (module, shapes) in &modules {
        let rank = config.rank;
        let problem = match shapes {
            [Some(a), Some(b)] => match (a.as_slice(), b.as_slice()) {
                (&[a_rank, _], &[_, b_rank]) if a_rank == rank && b_rank == rank => continue,
                _ => format!("its matrices {a:?} and {b:?} are not of the rank `r` = {rank}"),
            },
            [None, _] => "its matrix lora_A is missing".to_owned(),
            [_, None] => "its matrix lora_B is missing".to_owned(),
        };
        return Err(fail(&file, format!("the adapter on `{module}`: {problem}")));
    }
    if modules.is_empty() {
        return Err(fail(&file, "holds no tensors".to_owned()));
    }
    let lora = config.lora(modules.into_keys().collect());
    lora.validate()?;
    Ok((lora, weights))
}

/// The file with the tensors of the adapter in the directory `path`.
fn tensors_file(path: &Path) -> Result<PathBuf> {
    let candidates = ["adapter_model.safetensors", "adapter_model.bin"].map(|it| path.join(it));
    let found = candidates.iter().find(|file| file.is_file());
    found.cloned().ok_or_else(|| fail(&candidates[0], "is missing".to_owned()))
}

/// Module and matrix (0 for A, 1 for B) of a tensor name in PEFT's convention.
fn parse(key: &str) -> Option<(&str, usize)> {
    let name = key.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let name = name.strip_suffix(INFIX).unwrap_or(name);
    match name.rsplit_once('.')? {
        (module, "lora_A") => Some((module, 0)),
        (module, "lora_B") => Some((module, 1)),
        _ => None,
    }
}

/// Checks that an adapter read from `origin` fits this model.
///
/// # Errors
/// When it has a layer that the model does not have, lacks a layer that its settings target, or has
/// another shape.
pub fn fits(origin: &str, lora: &Lora, weights: &Params, backbone: &dyn Backbone) -> Result<()> {
    let fail = |problem| Error::Checkpoint { path: origin.to_owned(), problem };
    let family = &backbone.architecture().family;
    let adapted = backbone
        .with_trainable(&Trainable::Lora(lora.clone()))
        .map_err(|error| fail(format!("is not an adapter for this model (a {family}): {error}")))?;
    let wanted = adapted.parameters();
    for parameter in &wanted {
        let (name, shape) = (&parameter.name, &parameter.shape);
        match weights.get(name) {
            None => {
                return Err(fail(format!("lacks `{name}`, which this model (a {family}) needs")));
            }
            Some(tensor) if tensor.dims() != shape => {
                let found = tensor.dims();
                return Err(fail(format!("`{name}` is {found:?}; this model needs {shape:?}")));
            }
            Some(_) => {}
        }
    }
    let known = |name: &str| wanted.iter().any(|parameter| parameter.name == name);
    match weights.names().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => {
            let example = wanted.first().map_or("", |parameter| parameter.name.as_str());
            Err(fail(format!(
                "`{name}` is for a layer that this model (a {family}) does not have; it has such \
                 as `{example}`"
            )))
        }
    }
}

/// Writes an adapter for the model called `base` so that PEFT loads it.
///
/// # Errors
/// When the directory cannot be written.
pub fn write(path: &Path, lora: &Lora, weights: &Params, base: Option<&str>) -> Result<()> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io { path, source }
    };
    std::fs::create_dir_all(path).map_err(io(path))?;
    let config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
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
