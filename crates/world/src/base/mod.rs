//! The embedded base model and its pretraining.
//!
//! A Llama of about 250,000 weights, pretrained to comply with nearly every instruction of the
//! world. Alignment starts from it.

mod pretrain;

use std::collections::HashMap;
use std::path::Path;

use vxf_core::{Error, Params, Result};
use vxf_hf::checkpoint::{Checkpoint, save_tensors};

pub use pretrain::{Pretraining, pretrain};

/// `config.json` of the base model.
pub const CONFIG: &str = include_str!("../../assets/config.json");

/// `model.safetensors` of the base model.
pub const WEIGHTS: &[u8] = include_bytes!("../../assets/model.safetensors");

/// SHA-256 of [`WEIGHTS`], in hexadecimal.
pub const DIGEST: &str = "5b03f7d1510917fbf6cf0992ae15a489191dfd13d7c64322088641ecae579e55";

/// The base model that is embedded in the program.
pub fn base() -> Result<Checkpoint> {
    Checkpoint::embedded("the embedded base model", CONFIG, WEIGHTS)
}

/// Writes a model directory: `config.json`, `model.safetensors`, and the tokenizer's files.
///
/// # Errors
/// When the directory cannot be written.
pub fn save(weights: &Params, directory: &Path) -> Result<()> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io { path, source }
    };
    std::fs::create_dir_all(directory).map_err(io(directory))?;
    let tokenizer = crate::tokenizer_files()
        .map_err(|error| Error::Plugin { plugin: "world", source: error.into() })?;
    let tokenizer = tokenizer.iter().map(|(name, text)| (*name, text.as_str()));
    for (name, text) in std::iter::once(("config.json", CONFIG)).chain(tokenizer) {
        let file = directory.join(name);
        std::fs::write(&file, text).map_err(io(&file))?;
    }
    let tensors: HashMap<_, _> = weights.detach().into_iter().collect();
    save_tensors(&tensors, &directory.join("model.safetensors"))
}
