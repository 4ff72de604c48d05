//! Models in the Hugging Face layout: a configuration, and tensors that are read on demand.
//!
//! A checkpoint is a base, memory-mapped where its format allows, plus any number of changes:
//! trained weights that were merged into it. When a model is loaded or exported, each tensor is
//! built on its own, so that a base is never in memory twice.

mod adapt;
mod base;
mod bitsandbytes;
mod elsewhere;
mod export;
pub use export::save_tensors;
mod lineage;
mod merge;
mod names;
mod open;
mod quantize;
mod shard;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::family::Outline;
use crate::peft::Adapter;
use vxf_core::{Error, Params, Result, Trainable};
use vxf_tensor::numeric::not_finite;
use vxf_tensor::quantized::Scheme;

use base::Base;
use merge::Change;
pub use merge::Update;
pub(crate) use open::format;
pub use open::has_weights;
pub use quantize::Frozen;

pub(crate) use shard::{Shard, is_weight};

/// The storage format of a checkpoint's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Safetensors files.
    Safetensors,
    /// PyTorch pickle files. They may hold code, which the reader here never runs.
    Pickle,
    /// A GGUF file, whose quantised tensors are read as f32.
    Gguf,
    /// No files: compiled into the program, or created in memory.
    Memory,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Pickle => "PyTorch pickle",
            Self::Gguf => "GGUF",
            Self::Memory => "memory",
        })
    }
}

/// A model on disk or in memory: its configuration, and its tensors, read on demand.
///
/// Cheap to clone and to merge into, because the opened files are shared.
#[derive(Clone)]
pub struct Checkpoint {
    base: Arc<Base>,
    changes: Vec<Arc<Change>>,
    /// The configuration after the changes, if they affect it.
    config: Option<Arc<Value>>,
    /// How the frozen matrices are held, if in few bits, and which these are.
    quantized: Option<(Scheme, Arc<BTreeSet<String>>)>,
}

impl Checkpoint {
    /// Opens the checkpoint in the directory `path`: `config.json` beside `model.safetensors`, or
    /// several such files with an index, or `pytorch_model.bin` likewise.
    ///
    /// # Errors
    /// When a file is missing or invalid, naming it.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(open::directory(path)?.into())
    }

    /// A checkpoint that is compiled into the program.
    ///
    /// # Errors
    /// When the bytes are invalid.
    pub fn embedded(name: &str, config: &str, tensors: &'static [u8]) -> Result<Self> {
        let fail = |problem| Error::Checkpoint { path: name.to_owned(), problem };
        let config = serde_json::from_str(config).map_err(|error| fail(error.to_string()))?;
        let tensors = Shard::embedded(tensors).map_err(|error| fail(error.to_string()))?;
        Ok(Base::in_memory(name, config, tensors).into())
    }

    /// A checkpoint from tensors in memory.
    pub fn made(name: &str, config: Value, tensors: Params) -> Self {
        Base::in_memory(name, config, Shard::Made(tensors)).into()
    }

    /// Its origin, for messages.
    pub fn origin(&self) -> &str {
        &self.base.origin
    }

    /// The complete `config.json`. If only the tensors show that the model is a classifier, this is
    /// entered under `architectures` and `num_labels`.
    pub fn raw_config(&self) -> &Value {
        self.config.as_deref().unwrap_or(&self.base.config)
    }

    /// The model's shape as the configuration implies it.
    ///
    /// # Errors
    /// When no registered family reads it.
    pub fn outline(&self) -> Result<Outline> {
        crate::family::outline(self.raw_config(), self.origin())
    }

    /// The storage format of the tensors.
    pub fn format(&self) -> Format {
        self.base.format
    }

    /// The files that hold the tensors, sorted by name; empty for a model in memory.
    pub fn files(&self) -> &[PathBuf] {
        &self.base.files
    }

    /// The dtype that most of the weights are stored in.
    pub fn storage_dtype(&self) -> DType {
        self.base.storage_dtype()
    }

    /// The shape of the tensor called `name`.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.replacement(name) {
            Some(tensor) => Some(tensor.dims().to_vec()),
            None => self.base.info(name).map(|info| info.shape),
        }
    }

    /// What the user should know about the files: unusual names, and tensors that a model of this
    /// outline does not use. Empty for an ordinary checkpoint.
    pub fn remarks(&self, outline: &Outline) -> Vec<String> {
        let mut remarks = self.base.remarks.clone();
        let unused = self.base.unused(outline);
        if !unused.is_empty() {
            let (count, names) = (unused.len(), vxf_untrusted::some(&unused));
            let (noun, verb) = if count == 1 { ("tensor", "is") } else { ("tensors", "are") };
            remarks.push(format!(
                "{count} {noun} of the weights {verb} not used: {names}; config.json may belong to \
                 another model"
            ));
        }
        remarks
    }

    /// Reads the tensor called `name`, which must have this shape, with all changes applied.
    ///
    /// # Errors
    /// When it is missing, truncated, of another shape, not floating point or not finite.
    pub fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.check(name, shape)?;
        let tensor = self.finite(name, self.changes.len())?;
        if dtype == DType::F16 && tensor.dtype() != DType::F16 {
            // The widest of the other types holds numbers that this one does not.
            let narrow = tensor.to_dtype(DType::F16)?;
            if not_finite(&narrow)?.is_some() {
                let problem =
                    format!("tensor `{name}` holds a number that f16 does not; take bf16 or f32");
                return Err(self.error(problem));
            }
            return Ok(narrow.to_device(device)?.contiguous()?);
        }
        Ok(tensor.to_device(device)?.to_dtype(dtype)?.contiguous()?)
    }

    /// This checkpoint with `weights` merged in, as training under `trainable` left them.
    ///
    /// An adapter is merged as in PEFT: `W + scale B A` in f32 (f64 if W is), rounded to the dtype of W;
    /// adapters that are merged one after the other are each rounded. Fully trained weights replace the
    /// old ones unrounded, because training ends with them and not with a rounded copy;
    /// [`Checkpoint::export`] rounds them to the dtype of the file.
    ///
    /// The base is shared; `weights` are copied, so that training may continue on them.
    ///
    /// # Errors
    /// When a weight does not belong to a tensor of this checkpoint, or its shape differs.
    pub fn merged(&self, trainable: &Trainable, weights: &Params) -> Result<Self> {
        let change = Change::new(trainable, weights, self)?;
        let mut merged = self.clone();
        merged.changes.push(Arc::new(change));
        Ok(merged)
    }

    /// Writes the model into the new directory `path`: `config.json`, and its tensors in the types
    /// they are stored in, as one `model.safetensors` or as several of at most `max_shard_bytes`
    /// each with Hugging Face's index (a larger tensor gets a file of its own).
    ///
    /// Only one tensor at a time is in memory. Names and shapes are checked before anything is written;
    /// an error later leaves an incomplete directory.
    ///
    /// # Errors
    /// When the directory exists and is not empty, or a tensor cannot be read or written.
    pub fn export(&self, path: &Path, max_shard_bytes: u64) -> Result<()> {
        export::export(self, path, max_shard_bytes)
    }

    /// Reads the tensors of the file `path`, which has no configuration: trained weights, as a stage
    /// saved them.
    ///
    /// # Errors
    /// When it cannot be read, or contains anything other than finite weights.
    pub fn weights(path: &Path, dtype: DType) -> Result<Params> {
        let fail =
            |problem: String| Error::Checkpoint { path: path.display().to_string(), problem };
        if !path.is_file() {
            return Err(fail("is missing".to_owned()));
        }
        let shard = Shard::open(path)?;
        let mut weights = Params::new();
        for name in shard.names() {
            if !shard.info(&name).is_some_and(|info| is_weight(info.dtype)) {
                return Err(fail(format!("`{name}` must be stored as F32, F16, BF16 or F64")));
            }
            let tensor = shard.read(&name)?;
            if let Some(value) = not_finite(&tensor)? {
                return Err(fail(format!("`{name}` holds {value}; weights must be finite")));
            }
            weights.insert(name, tensor.to_dtype(dtype)?);
        }
        Ok(weights)
    }

    /// The error for a valid checkpoint of an unknown kind.
    pub fn unsupported(&self, problem: String) -> Error {
        Error::Unsupported { path: self.origin().to_owned(), problem }
    }

    /// An error about this checkpoint.
    pub fn error(&self, problem: String) -> Error {
        self.base.error(problem)
    }

    /// This checkpoint with an adapter of PEFT merged in.
    ///
    /// Low-rank updates are merged as in [`Checkpoint::merged`]; weights that the adapter saved whole
    /// replace those of the base. Embeddings may have another number of rows, which is then the size
    /// of the vocabulary. An adapter that changes only one of two tied matrices unties them.
    ///
    /// # Errors
    /// When the adapter does not fit this model.
    pub fn adapted(&self, adapter: &Adapter) -> Result<Self> {
        adapt::adapted(self, adapter)
    }

    /// The last replacement of the tensor called `name`.
    fn replacement(&self, name: &str) -> Option<&Tensor> {
        self.changes.iter().rev().find_map(|change| change.replacement(name))
    }

    /// Checks that the tensor called `name` exists and has this shape.
    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        match self.replacement(name) {
            None => self.base.check(name, shape),
            Some(tensor) if tensor.dims() == shape => Ok(()),
            Some(tensor) => Err(self.error(format!(
                "an adapter replaces tensor `{name}` by one of shape {:?}; the model needs {shape:?}",
                tensor.dims()
            ))),
        }
    }

    /// The tensor called `name` with all changes applied, on the CPU, in the dtype after the last of
    /// them.
    fn current(&self, name: &str) -> Result<Tensor> {
        self.after(name, self.changes.len())
    }

    /// The tensor called `name` after the first `count` changes, which must be finite.
    fn finite(&self, name: &str, count: usize) -> Result<Tensor> {
        let tensor = self.after(name, count)?;
        match not_finite(&tensor)? {
            None => Ok(tensor),
            Some(value) => {
                Err(self
                    .error(format!("tensor `{name}` holds {value}; every weight must be finite")))
            }
        }
    }

    /// The same after the first `count` changes.
    fn after(&self, name: &str, count: usize) -> Result<Tensor> {
        let changes = &self.changes[..count];
        let replaced = changes.iter().rposition(|change| change.replacement(name).is_some());
        let (start, mut tensor) = match replaced.and_then(|at| changes[at].replacement(name)) {
            Some(tensor) => (replaced.map_or(0, |at| at + 1), tensor.to_device(&Device::Cpu)?),
            None => (0, self.base.read(name)?),
        };
        for change in &changes[start..] {
            tensor = change.apply(name, tensor)?;
        }
        Ok(tensor.contiguous()?)
    }
}

impl From<Base> for Checkpoint {
    fn from(base: Base) -> Self {
        Self { base: Arc::new(base), changes: Vec::new(), config: None, quantized: None }
    }
}
