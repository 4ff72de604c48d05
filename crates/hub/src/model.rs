//! Selects the files of a repository that form a model directory.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::repository::Repository;

/// Small optional files beside the weights and the configuration of a model, which loaders look for.
pub const COMPANIONS: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

const WEIGHTS: &str = "model.safetensors";
const PICKLED: &str = "pytorch_model.bin";
const ADAPTER: &str = "adapter_model.safetensors";

/// The maximum size of an index in bytes; that of a model of a thousand layers has two million.
const LONGEST_INDEX: u64 = 128 << 20;

/// File endings of unsupported weight formats.
const FOREIGN: [&str; 9] =
    [".gguf", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ggml", ".safetensors"];

impl Repository<'_> {
    /// Downloads the files that a model directory needs; returns the commit's directory.
    ///
    /// These are `config.json`, the tokenizer and template files that exist, and the weights:
    /// `model.safetensors`, or the shards that its index names, and only if there is neither,
    /// `pytorch_model.bin` or its shards. An adapter has `adapter_config.json` and
    /// `adapter_model.safetensors`. `tokenizer.model` is downloaded only if `tokenizer.json` is missing,
    /// so that an error can name the tokenizer that the model has.
    ///
    /// # Errors
    /// As [`get`](Self::get), and when there are no weights.
    pub fn model_files(&self) -> Result<PathBuf> {
        // Weights come last, so that a directory with weights is complete, also offline.
        for file in COMPANIONS.into_iter().chain(["adapter_config.json"]) {
            self.get_if_there(file)?;
        }
        if !self.has("tokenizer.json")? {
            self.get_if_there("tokenizer.model")?;
        }
        let adapter = self.has("adapter_config.json")?;
        if !adapter || self.has("config.json")? {
            self.get("config.json")?;
        }
        let adapted = adapter && self.get_if_there(ADAPTER)?;
        if self.get_weights(WEIGHTS)? || adapted || self.get_weights(PICKLED)? {
            return Ok(self.directory());
        }
        // Offline the error names the missing file; online it lists other weight files.
        if self.hub().settings().offline.is_some() {
            self.get(if adapter { ADAPTER } else { WEIGHTS })?;
        }
        let mut found = self.files()?;
        found.retain(|file| FOREIGN.iter().any(|ending| file.ends_with(ending)));
        found.truncate(4);
        Err(Error::NoWeights { id: self.id(), found })
    }

    fn get_if_there(&self, file: &str) -> Result<bool> {
        let there = self.has(file)?;
        if there {
            self.get(file)?;
        }
        Ok(there)
    }

    /// Downloads weights in one file, or else their index and the shards that it names.
    fn get_weights(&self, weights: &str) -> Result<bool> {
        if self.get_if_there(weights)? {
            return Ok(true);
        }
        let index = format!("{weights}.index.json");
        if !self.has(&index)? {
            return Ok(false);
        }
        let path = self.get(&index)?;
        let problem =
            |problem: &str| Error::Content { path: path.clone(), problem: problem.into() };
        let length = path.metadata().map_err(Error::io("read", &path))?.len();
        if length > LONGEST_INDEX {
            return Err(problem("the index of weights is longer than 128 MiB"));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let index: Value = serde_json::from_str(&text)
            .map_err(|error| problem(&format!("is not an index of weights: {error}")))?;
        let shards: BTreeSet<_> = index["weight_map"]
            .as_object()
            .and_then(|map| map.values().map(Value::as_str).collect())
            .ok_or_else(|| {
                problem("is not an index of weights: it has no `weight_map` of names")
            })?;
        if shards.is_empty() {
            return Err(problem("the index of weights names no file"));
        }
        for shard in shards {
            // The model loader accepts plain names only, so other names are refused before the download.
            if shard.contains('/') {
                return Err(Error::UnsafeName { id: self.id(), name: shard.to_owned() });
            }
            self.get(shard)?;
        }
        Ok(true)
    }
}
