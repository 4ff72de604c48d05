//! The model under test and its tokenizer: embedded, in a directory, or on the hub.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use vxf_core::{Backbone, Params, Trainable};
use vxf_data::{Check, Codec, Sample, TemplateChoice};
use vxf_hf::checkpoint::{Checkpoint, Format};
use vxf_hf::peft::{self, ADAPTER_CONFIG};
use vxf_hf::{Adapter, Outline, load_backbone, outline};
use vxf_untrusted::not_used;

use crate::access::Access;
use crate::device::device;
use crate::{Error, Result};
use vxf_recipe::Recipe;
use vxf_recipe::settings::{EMBEDDED, ModelSettings};

/// Digests of the files of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDigests {
    /// SHA-256 of `config.json`.
    pub config: String,
    /// SHA-256 of the weights; for several files, of their names and digests.
    pub weights: String,
    /// SHA-256 of the tokenizer's files, as for the weights.
    pub tokenizer: String,
    /// SHA-256 of the settings and weights of each adapter that is merged first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
}

/// A base model: the location of its weights, and its tokenizer.
///
/// [`Base::model`] and [`Base::merged`] load the weights. The base is shared while in use and freed
/// afterwards, so that it is never held twice.
pub struct Base {
    /// Its name in messages.
    pub name: String,
    /// Its weights and configuration, with the adapters of the recipe merged in.
    pub checkpoint: Checkpoint,
    /// Its tokenizer with the recipe's template.
    pub codec: Arc<Codec>,
    /// Its shapes.
    pub outline: Outline,
    /// Its directory; `None` for the embedded model.
    pub directory: Option<PathBuf>,
    /// The merged adapters: their directories and digests.
    adapters: Vec<(PathBuf, String)>,
    /// What the user should know about the files of the model.
    pub remarks: Vec<String>,
    device: Device,
    dtype: DType,
    shared: Mutex<Option<Weak<dyn Backbone>>>,
    /// The model loaded by [`Base::prepare`], taken by the first use.
    ready: Mutex<Option<Arc<dyn Backbone>>>,
}

impl Base {
    /// Opens the model of `recipe`: reads configuration and tokenizer, not the weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, the tokenizer does not match the model, or the model does not
    /// match the recipe.
    pub fn open(recipe: &Recipe, access: &Access) -> Result<Self> {
        let settings = &recipe.model;
        let template = recipe.data.config.template();
        let device = device(&recipe.settings.device)?;
        Self::of(settings, template, device, access)
    }

    /// Opens the model that `settings` name.
    ///
    /// # Errors
    /// As [`Base::open`].
    pub fn of(
        settings: &ModelSettings,
        template: TemplateChoice,
        device: Device,
        access: &Access,
    ) -> Result<Self> {
        let mut places = Vec::new();
        let (mut checkpoint, codec, directory) = match settings.path.as_str() {
            EMBEDDED => (vxf_world::base()?, vxf_world::codec()?, None),
            path => {
                let (directory, beside) = with_adapter(path, &settings.base, access)?;
                places.extend(beside);
                let checkpoint = Checkpoint::open(&directory)?;
                (checkpoint, Codec::open(&directory, template)?, Some(directory))
            }
        };
        for adapter in &settings.adapters {
            places.push(access.model(adapter)?);
        }
        let name = match settings.path.as_str() {
            EMBEDDED => "the embedded model".to_owned(),
            path => path.to_owned(),
        };
        if checkpoint.format() == Format::Pickle {
            access
                .note(&format!("{name}: weights in pickled files, read without running any code"));
        }
        expected_shape(&name, checkpoint.raw_config(), settings)?;
        let plain = outline(checkpoint.raw_config(), &name)?;
        let mut remarks = codec.remarks().to_vec();
        remarks.extend(not_used("config.json", &plain.unknown));
        remarks.extend(checkpoint.remarks(&plain));
        remarks.iter().for_each(|remark| access.warn(&format!("{name}: {remark}")));
        let mut adapters = Vec::new();
        for place in places {
            if let Some(directory) = &directory
                && let Some(remark) = vxf_data::other_tokenizer(directory, &place)?
            {
                access.warn(&remark);
            }
            let adapter = Adapter::read(&place, DType::F32, &Device::Cpu)?;
            adapter.remarks.iter().for_each(|remark| access.warn(remark));
            adapters.push((place, adapter_digest(&adapter)?));
            checkpoint = checkpoint.adapted(&adapter)?;
        }
        if let Some(scheme) = settings.quantize.scheme() {
            checkpoint = checkpoint.quantized_by(scheme)?;
            let again = checkpoint.quantized_again();
            again.iter().for_each(|remark| access.warn(&format!("{name}: {remark}")));
            remarks.extend(again);
        }
        let outline = outline(checkpoint.raw_config(), &name)?;
        outline.language_model(&name)?;
        let codec = Arc::new(codec.for_vocabulary(outline.architecture.vocabulary));
        let dtype = settings.dtype.into();
        let (shared, ready) = (Mutex::new(None), Mutex::new(None));
        Ok(Self {
            name,
            checkpoint,
            codec,
            outline,
            directory,
            adapters,
            remarks,
            device,
            dtype,
            shared,
            ready,
        })
    }

    /// Whether it is the embedded model.
    pub fn embedded(&self) -> bool {
        self.directory.is_none()
    }

    /// The directories of the adapters that are merged into it, in order.
    pub fn adapters(&self) -> impl Iterator<Item = &Path> {
        self.adapters.iter().map(|(place, _)| place.as_path())
    }

    /// The type it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device it computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Loads the model ahead, so that problems with its weights are found before anything is written.
    ///
    /// # Errors
    /// When a tensor is missing or damaged.
    pub fn prepare(&self) -> Result<()> {
        let model = self.model()?;
        *self.ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(model);
        Ok(())
    }

    /// The model with all weights frozen; loaded unless it is in use.
    ///
    /// # Errors
    /// When a tensor is missing or damaged.
    pub fn model(&self) -> Result<Arc<dyn Backbone>> {
        let mut shared = self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let ready = self.ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(model) = ready.or_else(|| shared.as_ref().and_then(Weak::upgrade)) {
            return Ok(model);
        }
        let model = load_backbone(&self.checkpoint, self.dtype, &self.device)?;
        *shared = Some(Arc::downgrade(&model));
        Ok(model)
    }

    /// The model with the trained `weights` merged in.
    ///
    /// Adapters are merged as in the published protocol, and rounded to the type in which the base is
    /// stored.
    ///
    /// # Errors
    /// When a tensor is missing or damaged.
    pub fn merged(&self, trainable: &Trainable, weights: &Params) -> Result<Arc<dyn Backbone>> {
        self.load(&self.checkpoint.merged(trainable, weights)?)
    }

    /// The model with the weights of `checkpoint`, which was derived from the base.
    ///
    /// # Errors
    /// When a tensor is missing or damaged.
    pub fn load(&self, checkpoint: &Checkpoint) -> Result<Arc<dyn Backbone>> {
        Ok(load_backbone(checkpoint, self.dtype, &self.device)?)
    }

    /// Checks that its template can format a sample.
    pub fn check(&self) -> Arc<Check> {
        let codec = self.codec.clone();
        Arc::new(move |sample: &Sample, test| codec.check(sample, test))
    }

    /// Digests of its files. Reads all of them.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digests(&self) -> Result<ModelDigests> {
        let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let adapters = self.adapters.iter().map(|(_, digest)| digest.clone()).collect();
        match &self.directory {
            None => Ok(ModelDigests {
                config: digest(vxf_world::CONFIG.as_bytes()),
                weights: digest(vxf_world::WEIGHTS),
                tokenizer: digest(vxf_world::tokenizer_json()?.as_bytes()),
                adapters,
            }),
            Some(directory) => Ok(ModelDigests {
                config: file_digest(&directory.join("config.json"))?,
                weights: files_digest(self.checkpoint.files())?,
                tokenizer: files_digest(self.codec.files())?,
                adapters,
            }),
        }
    }

    /// The length limit in tokens for `max_length`, where 0 means the model's own limit.
    pub fn limit(&self, max_length: usize) -> usize {
        let positions = self.outline.architecture.positions;
        if max_length == 0 { positions } else { max_length.min(positions) }
    }
}

/// The directory of the model `path`, and the adapter that belongs to it, if there is one.
///
/// An adapter beside the weights is attached, as in transformers. For a directory that is only an
/// adapter, the model is `base`, or the one that the adapter names.
fn with_adapter(path: &str, base: &str, access: &Access) -> Result<(PathBuf, Option<PathBuf>)> {
    let directory = access.model(path)?;
    if !directory.join(ADAPTER_CONFIG).is_file() {
        return match base {
            "" => Ok((directory, None)),
            base => Err(Error::NoModel {
                path: directory,
                instead: format!("; `model.base` is {base}, but this is a model, not an adapter"),
            }),
        };
    }
    if base.is_empty() && vxf_hf::checkpoint::has_weights(&directory) {
        access.note(&format!("{path}: the adapter beside the weights is merged into the model"));
        return Ok((directory.clone(), Some(directory)));
    }
    let named = match base {
        "" => peft::base_name(&directory)?,
        base => Some(base.to_owned()),
    };
    let Some(named) = named else {
        let instead = "; this is an adapter that names no base; give it as `--base` (`model.base`)";
        return Err(Error::NoModel { path: directory, instead: instead.to_owned() });
    };
    access.note(&format!("{path}: an adapter; it is merged into its base {named}"));
    // A relative path is that of the adapter's author: it may be meant from the adapter's place.
    let beside = directory.join("..").join(&named);
    let model = match access.model(&named) {
        Ok(model) => model,
        Err(_) if base.is_empty() && beside.join("config.json").is_file() => beside,
        Err(Error::NoModel { path, .. }) => {
            let instead = format!(
                "; the adapter {} names it as its base; give another place as `--base` \
                 (`model.base`)",
                directory.display()
            );
            return Err(Error::NoModel { path, instead });
        }
        Err(error) => return Err(error),
    };
    Ok((model, Some(directory)))
}

/// Checks that `config.json` has the values of `model.shape`.
fn expected_shape(name: &str, config: &Value, settings: &ModelSettings) -> Result<()> {
    for (key, wanted) in &settings.shape {
        let found = config.get(key).unwrap_or(&Value::Null);
        let same = match (found.as_f64(), wanted.as_f64()) {
            (Some(found), Some(wanted)) => found == wanted,
            _ => found == wanted,
        };
        if !same {
            return Err(Error::OtherModel {
                model: name.to_owned(),
                key: key.clone(),
                found: found.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(())
}

/// SHA-256 of all weights and adapter configurations in a directory and its subdirectories.
pub fn directory_digest(directory: &Path) -> Result<String> {
    let (mut files, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(place) = open.pop() {
        for entry in std::fs::read_dir(&place).map_err(Error::io("read", &place))? {
            let path = entry.map_err(Error::io("read", &place))?.path();
            let of_model = |path: &Path| {
                let ending = path.extension().and_then(|ending| ending.to_str());
                matches!(ending, Some("safetensors" | "bin"))
                    || path.ends_with("adapter_config.json")
            };
            match path.is_dir() {
                true => open.push(path),
                false if of_model(&path) => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    files_digest(&files)
}

/// SHA-256 of what an adapter changes.
fn adapter_digest(adapter: &Adapter) -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |name: &str, tensor: &Tensor| -> Result<()> {
        hash.update(format!("\n{name} {:?}\n", tensor.dims()));
        for value in tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()? {
            hash.update(value.to_le_bytes());
        }
        Ok(())
    };
    for (module, update) in &adapter.updates {
        let scale = Tensor::new(&[update.scale as f32], &Device::Cpu)?;
        for (part, tensor) in [("A", &update.a), ("B", &update.b), ("scale", &scale)] {
            add(&format!("{module} {part}"), tensor)?;
        }
        if let Some(magnitude) = &update.magnitude {
            add(&format!("{module} magnitude"), magnitude)?;
        }
    }
    for (name, tensor) in adapter.replaced.iter() {
        add(name, tensor)?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn files_digest(files: &[PathBuf]) -> Result<String> {
    if let [file] = files {
        return file_digest(file);
    }
    let mut hash = Sha256::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        hash.update(format!("{name} {}\n", file_digest(file)?));
    }
    Ok(hex::encode(hash.finalize()))
}

/// SHA-256 of a file, in hexadecimal.
pub fn file_digest(path: &Path) -> Result<String> {
    let digest = vxf_untrusted::content_digest(path).map_err(Error::io("read", path))?;
    Ok(digest.sha256)
}
