//! Model families: the shape that a configuration implies, and how to load the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::Value;

use vxf_core::backbone::{Architecture, Backbone, Location, Parameter, module};
use vxf_core::{ConfigError, Error, Lora, Result, Trainable, registry};

use crate::checkpoint::Checkpoint;
use crate::gguf;

/// A model family: reads a checkpoint in the Hugging Face layout.
#[derive(Clone, Copy)]
pub struct Family {
    /// The `model_type` values of `config.json` that it supports.
    pub model_types: &'static [&'static str],
    /// Derives the model's shape from a configuration; the text is its origin, for messages.
    pub outline: fn(&Value, &str) -> Result<Outline>,
    /// Loads the model.
    pub load: fn(&Checkpoint, DType, &Device) -> Result<Arc<dyn Backbone>>,
}

/// A model without its weights, as its configuration implies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its dimensions.
    pub architecture: Architecture,
    /// All tensors under their Hugging Face names, with their shapes; a tied tensor is listed once.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// The linear layers that can have an adapter, by the name of their weight without `.weight`.
    pub linears: Vec<String>,
    /// The location of modules by name; a module that is not listed may be anywhere.
    pub locations: BTreeMap<String, Location>,
    /// The keys of the configuration that are unknown and not used.
    pub unknown: Vec<String>,
}

impl Outline {
    /// The number of weights.
    pub fn count(&self) -> usize {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The number of weights; `None` on overflow.
    fn checked_count(&self) -> Option<usize> {
        self.tensors.iter().try_fold(0_usize, |sum, (_, shape)| {
            let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size))?;
            sum.checked_add(count)
        })
    }

    /// Checks that it is a language model; `origin` is its place, for messages.
    ///
    /// # Errors
    /// When it is a sequence classifier or a reward model, whose head gives logits over labels.
    pub fn language_model(&self, origin: &str) -> Result<()> {
        let Some(labels) = self.architecture.labels else { return Ok(()) };
        let problem = format!(
            "is a sequence classifier (config.json: `architectures`): its head `score.weight` gives \
             {labels} labels, not tokens; give a language model (a classifier can be a judge)"
        );
        Err(Error::Unsupported { path: origin.to_owned(), problem })
    }

    /// The shape of the tensor called `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let found = self.tensors.iter().find(|(known, _)| known == name);
        found.map(|(_, shape)| shape.as_slice())
    }

    /// The location of the module called `module`.
    fn location(&self, module: &str) -> Location {
        self.locations.get(module).copied().unwrap_or_default()
    }

    /// Checks that every name in `target_modules` is that of a layer, here or in another family: a list
    /// may serve several.
    fn all_match(&self, lora: &Lora) -> Result<()> {
        let matches = |target: &&String| {
            if LAYERS.contains(&target.as_str()) {
                return true;
            }
            let one = Lora { target_modules: vec![(*target).clone()], ..lora.clone() };
            self.linears.iter().any(|module| one.targets(module))
        };
        let ends = |name: &str| self.linears.iter().any(|module| module.ends_with(name));
        for (joined, parts) in Lora::JOINED.iter().filter(|(joined, _)| ends(joined)) {
            let listed = |part: &&&str| lora.target_modules.iter().any(|target| target == **part);
            let found: Vec<_> = parts.iter().filter(listed).copied().collect();
            if !found.is_empty() && found.len() < parts.len() {
                let rule = format!(
                    "must name {joined}, or all of {}, which are one layer of this model",
                    parts.join(", ")
                );
                let key = "target_modules".to_owned();
                return Err(ConfigError { key, rule, found: found.join(", ") }.into());
            }
        }
        let Some(lost) = lora.target_modules.iter().find(|target| !matches(target)) else {
            return Ok(());
        };
        let last = |module: &String| module.rsplit('.').next().unwrap_or(module).to_owned();
        let known: BTreeSet<String> = self.linears.iter().map(last).collect();
        let known: Vec<_> = known.into_iter().collect();
        let rule = format!(
            "must name linear layers of this model ({}), or be all-linear",
            known.join(", ")
        );
        Err(ConfigError { key: "target_modules".to_owned(), rule, found: lost.clone() }.into())
    }

    /// The parameters of this model that `trainable` selects.
    ///
    /// # Errors
    /// When an adapter targets no layer of this model, or its rank exceeds the full rank of all of them.
    pub fn parameters(&self, trainable: &Trainable) -> Result<Vec<Parameter>> {
        let lora = match trainable {
            Trainable::Lora(lora) => lora,
            Trainable::Full => {
                let all = self.tensors.iter().cloned();
                let decays = |shape: &[usize]| shape.len() > 1;
                let parameter = |(name, shape): (String, Vec<usize>)| {
                    let location = self.location(module(&name));
                    let decay = decays(&shape);
                    Parameter::new(name, shape, decay).at(location)
                };
                return Ok(all.map(parameter).collect());
            }
        };
        lora.validate()?;
        let (mut all, mut widest) = (Vec::new(), 0);
        for module in self.linears.iter().filter(|module| lora.targets(module)) {
            let Some(&[out, input]) = self.shape(&format!("{module}.weight")) else { continue };
            widest = widest.max(out.min(input));
            let location = self.location(module);
            let parameter = |name, shape| Parameter::new(name, shape, true).at(location);
            all.push(parameter(Lora::a_of(module), vec![lora.rank, input]));
            all.push(parameter(Lora::b_of(module), vec![out, lora.rank]));
        }
        let rule = match self.linears.first().and_then(|module| module.rsplit('.').next()) {
            Some(module) => format!("must name linear layers of this model (such as {module})"),
            None => "must be empty: this model takes no adapters".to_owned(),
        };
        let targets = lora.target_modules.join(", ");
        ConfigError::unless(!all.is_empty(), "target_modules", &rule, targets)?;
        self.all_match(lora)?;
        let rule = format!("must be at most {widest}, the full rank of the widest layer it is for");
        ConfigError::unless(lora.rank <= widest, "rank", &rule, lora.rank)?;
        Ok(all)
    }
}

/// The names of linear layers in all families.
const LAYERS: [&str; 14] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "up_proj",
    "down_proj",
    "gate_proj",
    "qkv_proj",
    "gate_up_proj",
    "out_proj",
    "fc1",
    "fc2",
    "project_in",
    "project_out",
];

/// A registered model family.
pub struct BackboneEntry {
    /// The family's name.
    pub name: &'static str,
    /// What it supports, in under eighty characters.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The crate it comes from.
    pub package: &'static str,
    /// How to load it.
    pub family: Family,
}

inventory::collect!(BackboneEntry);

/// All model families, by name.
///
/// # Errors
/// When two plugins use the same name.
pub fn backbones() -> Result<Vec<&'static BackboneEntry>> {
    let all = inventory::iter::<BackboneEntry>.into_iter().collect();
    registry::sorted("backbone", all, |entry: &&BackboneEntry| (entry.name, entry.package))
}

/// The family that supports this configuration.
fn family(config: &Value, origin: &str) -> Result<Family> {
    let path = || origin.to_owned();
    let model_type = config.get("model_type").and_then(Value::as_str).ok_or_else(|| {
        Error::Checkpoint { path: path(), problem: "config.json has no `model_type`".into() }
    })?;
    let families = backbones()?;
    let found = families.iter().find(|entry| entry.family.model_types.contains(&model_type));
    found.map(|entry| entry.family).ok_or_else(|| {
        let known: Vec<_> =
            families.iter().flat_map(|entry| entry.family.model_types).copied().collect();
        let problem = format!(
            "`model_type` is `{model_type}`; registered families read {}",
            known.join(", ")
        );
        Error::Unsupported { path: path(), problem }
    })
}

/// The model's shape as `config` implies it; `origin` is the source of `config`, for messages.
///
/// # Errors
/// When no registered family supports it, listing those that exist, or its family refuses it.
pub fn outline(config: &Value, origin: &str) -> Result<Outline> {
    let outline = (family(config, origin)?.outline)(config, origin)?;
    // Callers count weights and bytes without checking for overflow.
    match outline.checked_count().filter(|count| *count <= MOST_WEIGHTS) {
        Some(_) => Ok(outline),
        None => Err(Error::Checkpoint {
            path: origin.to_owned(),
            problem: format!(
                "config.json: its sizes give more than {MOST_WEIGHTS} weights; look at \
                 `hidden_size`, `intermediate_size`, `vocab_size`, `num_attention_heads` and \
                 `head_dim`"
            ),
        }),
    }
}

/// More weights than any model has.
const MOST_WEIGHTS: usize = 1 << 44;

/// Loads the model in `checkpoint` with the family that supports its `model_type`.
///
/// # Errors
/// When no registered family supports it, listing those that exist; when tensors are missing,
/// damaged or of another shape than the configuration says.
pub fn load_backbone(
    checkpoint: &Checkpoint,
    dtype: DType,
    device: &Device,
) -> Result<Arc<dyn Backbone>> {
    (family(checkpoint.raw_config(), checkpoint.origin())?.load)(checkpoint, dtype, device)
}

/// Loads the model in the directory `path` in the Hugging Face layout, or that of its only GGUF file.
///
/// # Errors
/// As [`load_backbone`], and when the directory cannot be read.
pub fn load_directory(path: &Path, dtype: DType, device: &Device) -> Result<Arc<dyn Backbone>> {
    let Some(file) = gguf::alone(path) else {
        return load_backbone(&Checkpoint::open(path)?, dtype, device);
    };
    let unpacked = tempfile::tempdir()
        .map_err(|source| Error::Io { path: std::env::temp_dir().display().to_string(), source })?;
    gguf::unpack(&file, unpacked.path())?;
    load_backbone(&Checkpoint::open(unpacked.path())?, dtype, device)
}
