//! Model directories in the Hugging Face layout: `config.json` and `model.safetensors`.

use std::path::Path;

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};
use serde::de::DeserializeOwned;

use crate::{Error, Params, Result};

enum Tensors {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
    Made(Params),
}

/// A model on disk or in memory: its configuration and its tensors, read when asked for.
pub struct Checkpoint {
    origin: String,
    config: serde_json::Value,
    tensors: Tensors,
}

impl Checkpoint {
    /// The checkpoint in the directory `path`; tensors are memory-mapped.
    ///
    /// # Errors
    /// When `config.json` or `model.safetensors` is missing or not what its name says.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |file: &Path, problem: String| Error::Checkpoint {
            path: file.display().to_string(),
            problem,
        };
        if !path.is_dir() {
            return Err(fail(
                path,
                "no such directory; give one with config.json and model.safetensors".into(),
            ));
        }
        let file = path.join("config.json");
        let text = std::fs::read_to_string(&file)
            .map_err(|error| fail(&file, format!("cannot be read ({error}); a model directory holds config.json and model.safetensors")))?;
        let config = serde_json::from_str(&text)
            .map_err(|error| fail(&file, format!("is not JSON: {error}")))?;
        let file = path.join("model.safetensors");
        if !file.is_file() {
            return Err(fail(
                &file,
                "is missing; a model directory holds config.json and model.safetensors".into(),
            ));
        }
        // SAFETY: a memory map is only sound while nobody truncates the file under it. That is
        // the contract of every loader of this format; the header is checked against the length.
        #[allow(unsafe_code)]
        let tensors = unsafe { MmapedSafetensors::new(&file) }
            .map_err(|error| fail(&file, format!("is no whole safetensors file: {error}")))?;
        Ok(Self { origin: path.display().to_string(), config, tensors: Tensors::Mapped(tensors) })
    }

    /// A checkpoint that is part of the program.
    ///
    /// # Errors
    /// When the bytes are not what they should be.
    pub fn embedded(name: &str, config: &str, tensors: &'static [u8]) -> Result<Self> {
        let fail = |problem| Error::Checkpoint { path: name.to_owned(), problem };
        Ok(Self {
            origin: name.to_owned(),
            config: serde_json::from_str(config).map_err(|error| fail(error.to_string()))?,
            tensors: Tensors::Embedded(
                SliceSafetensors::new(tensors).map_err(|error| fail(error.to_string()))?,
            ),
        })
    }

    /// A checkpoint made of tensors in memory.
    pub fn made(name: &str, config: serde_json::Value, tensors: Params) -> Self {
        Self { origin: name.to_owned(), config, tensors: Tensors::Made(tensors) }
    }

    /// Where it comes from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The whole of `config.json`.
    pub fn raw_config(&self) -> &serde_json::Value {
        &self.config
    }

    /// `config.json` as a family understands it.
    ///
    /// # Errors
    /// When a key is missing or of the wrong type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.config)
            .map_err(|error| self.error(format!("config.json cannot be used: {error}")))
    }

    /// The `model_type` of `config.json`.
    ///
    /// # Errors
    /// When there is none.
    pub fn model_type(&self) -> Result<&str> {
        let found = self.config.get("model_type").and_then(serde_json::Value::as_str);
        found.ok_or_else(|| self.error("config.json has no `model_type`".into()))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        match &self.tensors {
            Tensors::Mapped(tensors) => tensors.get(name).is_ok(),
            Tensors::Embedded(tensors) => tensors.get(name).is_ok(),
            Tensors::Made(tensors) => tensors.get(name).is_some(),
        }
    }

    /// The tensor called `name`, which must have this shape.
    ///
    /// # Errors
    /// When it is missing, cut short, or shaped otherwise.
    pub fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if !self.has(name) {
            return Err(self.error(format!("tensor `{name}` is missing from model.safetensors")));
        }
        let loaded = match &self.tensors {
            Tensors::Mapped(tensors) => tensors.load(name, device),
            Tensors::Embedded(tensors) => tensors.load(name, device),
            Tensors::Made(tensors) => match tensors.get(name) {
                Some(tensor) => tensor.to_device(device),
                None => Err(candle_core::Error::Msg("no such tensor".into())),
            },
        };
        let tensor = loaded
            .map_err(|error| self.error(format!("tensor `{name}` cannot be read: {error}")))?;
        if tensor.dims() != shape {
            return Err(self.error(format!(
                "tensor `{name}` has shape {:?}; config.json asks for {shape:?}",
                tensor.dims()
            )));
        }
        Ok(tensor.to_dtype(dtype)?.contiguous()?)
    }

    /// An error saying that this checkpoint is sound but of an unknown kind.
    pub fn unsupported(&self, problem: String) -> Error {
        Error::Unsupported { path: self.origin.clone(), problem }
    }

    /// An error about this checkpoint.
    pub fn error(&self, problem: String) -> Error {
        Error::Checkpoint { path: self.origin.clone(), problem }
    }
}
