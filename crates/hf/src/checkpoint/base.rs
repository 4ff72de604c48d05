//! An opened base: a configuration and the files with the tensors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};

use super::names;
use super::shard::{Info, Shard, is_weight};
use super::{Format, bitsandbytes};
use crate::family::{self, Outline};
use vxf_core::{Error, Result};
use vxf_tensor::Quantized;

/// The name of the output projection in all families.
pub(super) const HEAD: &str = "lm_head.weight";

/// The source of the tensors.
pub(super) struct Base {
    pub(super) origin: String,
    pub(super) config: Value,
    pub(super) format: Format,
    pub(super) files: Vec<PathBuf>,
    /// What the user should know about the files.
    pub(super) remarks: Vec<String>,
    shards: Vec<Shard>,
    /// The shard of each tensor, and its name there.
    places: HashMap<String, (usize, String)>,
    /// Tensors that repeat another one.
    repeated: BTreeSet<String>,
}

impl Base {
    pub(super) fn new(
        origin: &str,
        config: Value,
        format: Format,
        files: Vec<PathBuf>,
        shards: Vec<Shard>,
    ) -> Self {
        let all = shards.iter().enumerate();
        let all = all.flat_map(|(at, shard)| shard.names().into_iter().map(move |it| (at, it)));
        let all: Vec<_> = all.collect();
        let twice = stored_twice(&all, &files);
        let (places, mut remarks) = names::unwrapped(all);
        remarks.extend(twice);
        let origin = origin.to_owned();
        let repeated = BTreeSet::new();
        let mut base = Self { origin, config, format, files, remarks, shards, places, repeated };
        base.enter_stored_in_few_bits();
        base.enter_classifier();
        base.settle_tie();
        base
    }

    pub(super) fn in_memory(name: &str, config: Value, shard: Shard) -> Self {
        Self::new(name, config, Format::Memory, Vec::new(), vec![shard])
    }

    /// Takes the quantisation out of the configuration if the files are read with it.
    fn enter_stored_in_few_bits(&mut self) {
        let few = |name: &String| {
            let own = self.find(name).map(|(shard, stored)| bitsandbytes::info(shard, &stored));
            name.ends_with(".weight") && own.flatten().is_some()
        };
        if !bitsandbytes::is_named(&self.config) || !self.places.keys().any(few) {
            return;
        }
        self.remarks.push(
            "the weights are stored by bitsandbytes in few bits; `model.quantize` keeps them so (\"nf4\" or \
             \"int8\", as they are), otherwise they are held as tensors"
                .to_owned(),
        );
        if let Some(config) = self.config.as_object_mut() {
            config.remove("quantization_config");
        }
    }

    /// Records in the configuration that this is a classifier, if only the tensors show it.
    fn enter_classifier(&mut self) {
        let configured =
            self.config["architectures"].to_string().contains("ForSequenceClassification");
        let Some(score) = self.info("score.weight") else { return };
        if configured || self.info(HEAD).is_some() {
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

    /// Compares the tensors of a tied model with its configuration.
    ///
    /// The one matrix may be stored under either name. If both names are there and the matrices
    /// differ, both are kept, as in transformers, and the configuration says so from then on.
    fn settle_tie(&mut self) {
        // A configuration that no family reads is refused later.
        let Ok(outline) = family::outline(&self.config, &self.origin) else { return };
        let Some(embedding) = embedding(&outline) else { return };
        if outline.architecture.labels.is_some() || outline.shape(HEAD).is_some() {
            return;
        }
        let Some((shard, head)) = self.places.get(HEAD).cloned() else { return };
        let Some((other, table)) = self.find(embedding) else {
            self.places.insert(embedding.to_owned(), (shard, head));
            self.repeated.insert(HEAD.to_owned());
            return;
        };
        if self.shards[shard].same(&head, other, &table) {
            self.repeated.insert(HEAD.to_owned());
            return;
        }
        self.remarks.push(format!(
            "the model is tied by config.json (`tie_word_embeddings`), but `{embedding}` and \
             `{HEAD}` differ; both are used"
        ));
        if let Some(config) = self.config.as_object_mut() {
            config.insert("tie_word_embeddings".into(), json!(false));
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<(&Shard, String)> {
        names::spellings(name).find_map(|spelling| {
            let (shard, stored) = self.places.get(spelling)?;
            Some((&self.shards[*shard], stored.clone()))
        })
    }

    /// Dtype and shape of the tensor called `name`.
    pub(super) fn info(&self, name: &str) -> Option<Info> {
        let (shard, stored) = self.find(name)?;
        bitsandbytes::info(shard, &stored).or_else(|| shard.info(&stored))
    }

    /// The tensors of the files that a model of this outline does not use, sorted.
    pub(super) fn unused(&self, outline: &Outline) -> Vec<String> {
        let used: BTreeSet<&str> = outline
            .tensors
            .iter()
            .filter_map(|(name, _)| names::spellings(name).find(|it| self.places.contains_key(*it)))
            .collect();
        let unused = self.places.iter().filter(|(name, _)| {
            !used.contains(name.as_str())
                && !self.repeated.contains(*name)
                && !names::is_derived(name)
                && !bitsandbytes::weight_of(name).is_some_and(|it| used.contains(it.as_str()))
        });
        let mut unused: Vec<_> = unused.map(|(_, (_, stored))| stored.clone()).collect();
        unused.sort_unstable();
        unused
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
        // Unrounded, so that it is the same model as tensors and as codes.
        if let Some(matrix) = self.quantized(name)? {
            return Ok(matrix.dense(DType::F32)?);
        }
        let Some((shard, stored)) = self.find(name) else { return Err(self.missing(name)) };
        shard
            .read(&stored)
            .map_err(|error| self.error(format!("tensor `{stored}` cannot be read: {error}")))
    }

    /// The matrix called `name`, if it is stored in few bits.
    ///
    /// # Errors
    /// When its parts do not fit each other.
    pub(super) fn quantized(&self, name: &str) -> Result<Option<Quantized>> {
        let Some((shard, stored)) = self.find(name) else { return Ok(None) };
        bitsandbytes::read(shard, &stored).map_err(|problem| self.error(problem))
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
        let others: Vec<_> = names::spellings(name).skip(1).map(|it| format!("`{it}`")).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(" (nor is {})", others.join(" or ")),
        };
        let mut stored: Vec<_> = self.places.values().map(|(_, stored)| stored.clone()).collect();
        stored.sort_unstable();
        let held = match stored.is_empty() {
            true => "no tensors".to_owned(),
            false => vxf_untrusted::some(&stored),
        };
        self.error(format!("tensor `{name}` is missing{others}; the files hold {held}"))
    }

    /// An error about this checkpoint.
    pub(super) fn error(&self, problem: String) -> Error {
        Error::Checkpoint { path: self.origin.clone(), problem }
    }
}

/// The name of the token embeddings.
pub(super) fn embedding(outline: &Outline) -> Option<&str> {
    let mut names = outline.tensors.iter().map(|(name, _)| name.as_str());
    names.find(|name| name.ends_with("embed_tokens.weight"))
}

/// A remark if files hold tensors of the same name: an index may say which one counts, and transformers
/// does not ask it.
fn stored_twice(all: &[(usize, String)], files: &[PathBuf]) -> Option<String> {
    let mut places = HashMap::new();
    let mut twice = Vec::new();
    for (at, name) in all {
        if let Some(first) = places.insert(name, *at) {
            twice.push((name.clone(), first, *at));
        }
    }
    twice.sort();
    let file =
        |at: usize| files.get(at).map_or_else(String::new, |file| file.display().to_string());
    let (_, first, last) = twice.first()?;
    let names: Vec<_> = twice.iter().map(|(name, ..)| name.clone()).collect();
    Some(format!(
        "{} and {} both hold {}; what is in the last one is used, as in transformers",
        file(*first),
        file(*last),
        vxf_untrusted::some(&names)
    ))
}
