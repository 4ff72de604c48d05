//! An opened base: a configuration and the files with the tensors.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};

use super::Format;
use super::shard::{Info, Shard, is_weight};
use vxf_core::{Error, Result};

/// The source of the tensors.
pub(super) struct Base {
    pub(super) origin: String,
    pub(super) config: Value,
    pub(super) format: Format,
    pub(super) files: Vec<PathBuf>,
    shards: Vec<Shard>,
    /// The shard of each tensor.
    places: HashMap<String, usize>,
}

/// The names that a file may use for the tensor `name`; some files leave out a prefix.
fn spellings(name: &str) -> impl Iterator<Item = &str> {
    let bare = ["model.", "model.decoder."].into_iter().filter_map(|it| name.strip_prefix(it));
    std::iter::once(name).chain(bare)
}

impl Base {
    pub(super) fn new(
        origin: &str,
        config: Value,
        format: Format,
        files: Vec<PathBuf>,
        shards: Vec<Shard>,
    ) -> Self {
        let mut places = HashMap::new();
        for (index, shard) in shards.iter().enumerate() {
            places.extend(shard.names().into_iter().map(|name| (name, index)));
        }
        let mut base = Self { origin: origin.to_owned(), config, format, files, shards, places };
        base.enter_classifier();
        base
    }

    pub(super) fn in_memory(name: &str, config: Value, shard: Shard) -> Self {
        Self::new(name, config, Format::Memory, Vec::new(), vec![shard])
    }

    /// Records in the configuration that this is a classifier, if only the tensors show it.
    fn enter_classifier(&mut self) {
        let configured =
            self.config["architectures"].to_string().contains("ForSequenceClassification");
        let Some(score) = self.info("score.weight") else { return };
        if configured || self.info("lm_head.weight").is_some() {
            return;
        }
        let named = self.config["architectures"][0].as_str().unwrap_or_default();
        let class = named.split("For").next().unwrap_or_default().trim_end_matches("Model");
        let class = format!("{class}ForSequenceClassification");
        if let Some(config) = self.config.as_object_mut() {
            config.insert("architectures".into(), json!([class]));
            config.insert("num_labels".into(), json!(score.shape.first()));
        }
    }

    fn find(&self, name: &str) -> Option<(&Shard, String)> {
        spellings(name).find_map(|spelling| {
            let shard = self.places.get(spelling)?;
            Some((&self.shards[*shard], spelling.to_owned()))
        })
    }

    /// Dtype and shape of the tensor called `name`.
    pub(super) fn info(&self, name: &str) -> Option<Info> {
        let (shard, spelling) = self.find(name)?;
        shard.info(&spelling)
    }

    /// Checks that the tensor called `name` exists, is a weight and has this shape.
    ///
    /// # Errors
    /// When it does not, naming it.
    pub(super) fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Some(info) = self.info(name) else { return Err(self.missing(name)) };
        if !is_weight(info.dtype) {
            let found = info.dtype.map_or("an unknown type".to_owned(), |it| format!("{it:?}"));
            return Err(self.error(format!(
                "tensor `{name}` is stored as {found}; weights are F32, F16, BF16 or F64"
            )));
        }
        if info.shape != shape {
            let found = info.shape;
            return Err(self.error(format!(
                "tensor `{name}` has shape {found:?}; config.json asks for {shape:?}"
            )));
        }
        Ok(())
    }

    /// The tensor called `name` as it is stored, on the CPU.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let Some((shard, spelling)) = self.find(name) else { return Err(self.missing(name)) };
        shard
            .read(&spelling)
            .map_err(|error| self.error(format!("tensor `{spelling}` cannot be read: {error}")))
    }

    /// The dtype that most of the weights are stored in; f32 if there are none.
    pub(super) fn storage_dtype(&self) -> DType {
        let mut counts: BTreeMap<usize, (usize, DType)> = BTreeMap::new();
        for info in self.places.keys().filter_map(|name| self.info(name)) {
            let (Some(dtype), true) = (info.dtype, is_weight(info.dtype)) else { continue };
            let count = counts.entry(dtype as usize).or_insert((0, dtype));
            count.0 += info.shape.iter().product::<usize>();
        }
        counts.into_values().max_by_key(|(count, _)| *count).map_or(DType::F32, |(_, it)| it)
    }

    fn missing(&self, name: &str) -> Error {
        let others: Vec<_> = spellings(name).skip(1).map(|it| format!("`{it}`")).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(" (nor is {})", others.join(" or ")),
        };
        let count = self.places.len();
        self.error(format!("tensor `{name}` is missing{others}; there are {count} others"))
    }

    /// An error about this checkpoint.
    pub(super) fn error(&self, problem: String) -> Error {
        Error::Checkpoint { path: self.origin.clone(), problem }
    }
}
