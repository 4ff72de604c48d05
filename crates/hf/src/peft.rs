//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

mod config;
mod pattern;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use vxf_core::backbone::module;
use vxf_core::{Backbone, Error, Lora, Params, Result, Trainable};
use vxf_tensor::numeric::not_finite;
use vxf_untrusted::some;

use crate::checkpoint::{Shard, Update, is_weight, save_tensors};

use config::AdapterConfig;

/// The name of an adapter's settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

const PREFIX: &str = "base_model.model.";

/// The infix that PEFT adds to tensor names while the adapter is in memory.
const INFIX: &str = ".default";

fn fail(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.display().to_string(), problem }
}

/// An adapter as PEFT saves it: low-rank updates of matrices, and weights that are saved whole.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The low-rank updates, by module.
    pub updates: BTreeMap<String, Update>,
    /// Weights that were saved whole (`modules_to_save`, biases, embeddings of a resized
    /// vocabulary), by the name of the tensor that they replace.
    pub replaced: Params,
    /// Its settings.
    pub lora: Lora,
    /// The model that it was trained on, as the adapter says.
    pub base: Option<String>,
    /// What the user should know about its files; empty for an ordinary adapter.
    pub remarks: Vec<String>,
    /// A key of the settings that training cannot continue with, if there is one.
    special: Option<&'static str>,
}

impl Adapter {
    /// Reads the adapter in the directory `path`, converted to `dtype`.
    ///
    /// Where the settings do not list the target layers (a regular expression, selected layers), they
    /// are derived from the tensors, and [`Lora::target_modules`] lists each by its full name.
    ///
    /// # Errors
    /// When a file is missing or invalid, a matrix lacks its partner or has another rank, or the
    /// adapter is of an unsupported kind.
    pub fn read(path: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let config = AdapterConfig::read(&path.join(ADAPTER_CONFIG))?;
        let file = tensors_file(path)?;
        let shard = Shard::open(&file)?;
        let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
        let mut replaced = Params::new();
        // Weights under the name that they have without a wrapper, with their keys.
        let mut bare = BTreeMap::new();
        for key in shard.names() {
            let Some((module, part)) = parse(&key) else {
                let problem = format!(
                    "`{key}` is not a tensor of a LoRA adapter in PEFT's naming; {}",
                    merge_first(path)
                );
                return Err(fail(&file, problem));
            };
            if !shard.info(&key).is_some_and(|info| is_weight(info.dtype)) {
                return Err(fail(
                    &file,
                    format!("`{key}` must be stored as F32, F16, BF16 or F64"),
                ));
            }
            let tensor =
                shard.read(&key).map_err(|error| fail(&file, format!("`{key}`: {error}")))?;
            if let Some(value) = not_finite(&tensor)? {
                return Err(fail(&file, format!("`{key}` holds {value}; weights must be finite")));
            }
            let tensor = tensor.to_device(device)?.to_dtype(dtype)?;
            match part {
                Part::Whole(name) => {
                    if key == format!("{PREFIX}{module}.weight") {
                        bare.insert(module.to_owned(), key.clone());
                    }
                    replaced.insert(name, tensor);
                }
                Part::Matrix(at) => {
                    parts.entry(module.to_owned()).or_default()[at] = Some(tensor);
                }
                Part::Transposed(at) => {
                    let tensor = tensor.t()?.contiguous()?;
                    parts.entry(module.to_owned()).or_default()[at] = Some(tensor);
                }
            }
        }
        if let Some((_, key)) = bare.iter().find(|(module, _)| parts.contains_key(*module)) {
            let problem = format!(
                "`{key}` and LoRA matrices are there for one layer, and PEFT would not use the first; \
                 remove one of them"
            );
            return Err(fail(&file, problem));
        }
        let mut updates = BTreeMap::new();
        for (module, parts) in parts {
            let update = config
                .update(&module, parts)
                .map_err(|problem| fail(&file, format!("the adapter on `{module}`: {problem}")))?;
            updates.insert(module, update);
        }
        if updates.is_empty() && replaced.is_empty() {
            return Err(fail(&file, "holds no tensors".to_owned()));
        }
        let (base, mut remarks, special) =
            (config.base.clone(), config.remarks.clone(), config.special);
        let whole = replaced.iter().filter_map(|(name, _)| name.rsplit_once('.')).map(|it| it.0);
        let lacking = config.without_tensors(updates.keys().map(String::as_str).chain(whole));
        if !lacking.is_empty() {
            remarks.push(format!(
                "{}: `target_modules` names {}, and the file has no tensors of it: nothing of it is adapted",
                path.display(),
                lacking.join(", "),
            ));
        }
        for (target, layers) in config.uneven(updates.keys().map(String::as_str)) {
            let layers: Vec<_> = layers.iter().map(u64::to_string).collect();
            remarks.push(format!(
                "{}: the file has no tensors of `{target}` in some layers, which are not adapted there: {}",
                path.display(),
                some(&layers),
            ));
        }
        let special = special.or((!replaced.is_empty()).then_some("modules_to_save"));
        let lora = config.lora(updates.keys().cloned().collect());
        if !updates.is_empty() {
            lora.validate()?;
        }
        Ok(Self { updates, replaced, lora, base, remarks, special })
    }
}

/// The tensors of one module: A, B and the magnitude.
type Parts = [Option<Tensor>; 3];

/// Reads the plain LoRA adapter in the directory `path`: its settings and its tensors under our names
/// (`<module>.lora_A`, `<module>.lora_B`), converted to `dtype`.
///
/// # Errors
/// As [`Adapter::read`], and when layers have different ranks or scales, or other weights were saved.
pub fn read(path: &Path, dtype: DType, device: &Device) -> Result<(Lora, Params)> {
    let Adapter { updates, lora, special, .. } = Adapter::read(path, dtype, device)?;
    if let Some(key) = special {
        let problem = format!(
            "`{key}` is set: such an adapter can be merged (`model.adapters`), but not trained or \
             compared as it is"
        );
        return Err(fail(&path.join(ADAPTER_CONFIG), problem));
    }
    let mut weights = Params::new();
    for (module, Update { a, b, .. }) in updates {
        weights.insert(Lora::a_of(&module), a);
        weights.insert(Lora::b_of(&module), b);
    }
    Ok((lora, weights))
}

/// The model that the adapter in the directory `path` names as its base.
///
/// # Errors
/// When its settings cannot be read.
pub fn base_name(path: &Path) -> Result<Option<String>> {
    Ok(AdapterConfig::read(&path.join(ADAPTER_CONFIG))?.base)
}

/// What to do with an adapter of an unsupported kind.
fn merge_first(path: &Path) -> String {
    let name = path.display();
    format!(
        "merge it with peft first: python -c \"from peft import AutoPeftModelForCausalLM as M; \
         M.from_pretrained('{name}').merge_and_unload().save_pretrained('{name}-merged')\""
    )
}

/// The file with the tensors of the adapter in the directory `path`.
fn tensors_file(path: &Path) -> Result<PathBuf> {
    let candidates = ["adapter_model.safetensors", "adapter_model.bin"].map(|it| path.join(it));
    let found = candidates.iter().find(|file| file.is_file());
    found.cloned().ok_or_else(|| fail(&candidates[0], "is missing".to_owned()))
}

/// The meaning of a tensor of an adapter.
enum Part {
    /// A (0), B (1) or the magnitude (2) of an update.
    Matrix(usize),
    /// A (0) or B (1), stored transposed.
    Transposed(usize),
    /// A weight that replaces the one with this name.
    Whole(String),
}

/// Module and meaning of a tensor name in PEFT's convention.
fn parse(key: &str) -> Option<(&str, Part)> {
    const ENDS: [(&str, usize); 3] =
        [(".lora_A", 0), (".lora_B", 1), (".lora_magnitude_vector", 2)];
    let name = key.strip_prefix(PREFIX)?;
    let bare = name.strip_suffix(".weight").unwrap_or(name);
    let bare = bare.strip_suffix(INFIX).unwrap_or(bare);
    if let Some((end, at)) = ENDS.into_iter().find(|(end, _)| bare.ends_with(end)) {
        return Some((&bare[..bare.len() - end.len()], Part::Matrix(at)));
    }
    // The update of embeddings is stored transposed: `(B A)^T = A^T B^T`.
    for (end, at) in [(".lora_embedding_A", 1), (".lora_embedding_B", 0)] {
        if let Some(module) = bare.strip_suffix(end) {
            return Some((module, Part::Transposed(at)));
        }
    }
    if name.contains("lora_") {
        return None;
    }
    let (module, weight) = name.rsplit_once('.')?;
    let module = module.strip_suffix(".base_layer").unwrap_or(module);
    let module = module.strip_suffix(".modules_to_save").unwrap_or(module);
    matches!(weight, "weight" | "bias").then(|| (module, Part::Whole(format!("{module}.{weight}"))))
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

/// The names of the layers that have an adapter. PEFT knows the joined layers by their own name only, and in
/// a list `all-linear` is no layer to it.
fn names(lora: &Lora, weights: &Params) -> Vec<String> {
    if lora.all_linear() {
        let last = |name: &str| module(name).rsplit('.').next().unwrap_or_default().to_owned();
        let all: BTreeSet<_> = weights.names().map(last).collect();
        return all.into_iter().collect();
    }
    let mut names = lora.target_modules.clone();
    for (joined, parts) in Lora::JOINED {
        if weights.names().any(|name| module(name).ends_with(joined)) {
            names.retain(|name| !parts.contains(&name.as_str()));
            if !names.iter().any(|name| name == joined) {
                names.push(joined.to_owned());
            }
        }
    }
    names
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
        "target_modules": names(lora, weights),
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
    save_tensors(&tensors, &path.join("adapter_model.safetensors"))?;
    Ok(())
}
