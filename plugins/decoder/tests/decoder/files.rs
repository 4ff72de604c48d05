//! Model directories of all kinds, and the errors of damaged ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vxf_core::{Key, Params, Result};
use vxf_hf::checkpoint::{Checkpoint, Format};
use vxf_hf::load_directory;
use vxf_testkit::checkpoint::tensors;
use vxf_testkit::numbers::first_difference;

use crate::shapes::{classifier, llama, opt, with};

/// How a model is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    pub(crate) dtype: DType,
    pub(crate) shards: usize,
}

const PLAIN: Storage = Storage { dtype: DType::F32, shards: 1 };
const SHARDED: Storage = Storage { dtype: DType::F32, shards: 3 };

impl Storage {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let dtype = prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::F16)];
        (dtype, 1usize..=3).prop_map(|(dtype, shards)| Self { dtype, shards })
    }

    /// Writes `config` and `weights` into a directory.
    pub(crate) fn write(self, directory: &Path, config: &Value, weights: &Params) {
        std::fs::write(directory.join("config.json"), config.to_string()).expect("a file");
        let save = |part: HashMap<String, Tensor>, name: &str| {
            candle_core::safetensors::save(&part, directory.join(name)).expect("a file");
        };
        let all: Vec<_> = weights.clone().into_iter().collect();
        if self.shards == 1 {
            return save(all.into_iter().collect(), "model.safetensors");
        }
        let mut map = Map::new();
        for (index, part) in all.chunks(all.len().div_ceil(self.shards)).enumerate() {
            let name = shard(index);
            map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
            save(part.iter().cloned().collect(), &name);
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        std::fs::write(directory.join(INDEX), index.to_string()).expect("a file");
    }

    /// Writes random weights of its type.
    fn random(self, config: &Value) -> (tempfile::TempDir, Params) {
        let directory = tempfile::tempdir().expect("a directory");
        let weights = tensors(config, &Key::root(3), self.dtype, &Device::Cpu).expect("tensors");
        self.write(directory.path(), config, &weights);
        (directory, weights)
    }
}

const INDEX: &str = "model.safetensors.index.json";

fn shard(index: usize) -> String {
    format!("model-{:05}-of-00003.safetensors", index + 1)
}

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings").join(name)
}

fn loaded(directory: &Path) -> Result<Params> {
    Ok(load_directory(directory, DType::F32, &Device::Cpu)?.tensors())
}

/// Asserts that loading a directory fails with these texts.
#[track_caller]
fn refused(directory: &Path, texts: &[&str]) {
    let message = loaded(directory).expect_err("refused").to_string();
    assert!(texts.iter().all(|text| message.contains(text)), "{texts:?} not in: {message}");
}

#[test]
fn all_kinds_of_files_are_read() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        for shards in [1, 3] {
            let (directory, weights) = Storage { dtype, shards }.random(&llama());
            let wide = weights.map(|tensor| Ok(tensor.to_dtype(DType::F32)?))?;
            assert_eq!(first_difference(&loaded(directory.path())?, &wide)?, None);
            let checkpoint = Checkpoint::open(directory.path())?;
            assert_eq!(checkpoint.storage_dtype(), dtype);
            assert_eq!(checkpoint.format(), Format::Safetensors);
            assert_eq!(checkpoint.files().len(), shards);
            assert!(checkpoint.files().iter().all(|file| file.is_file()));
        }
    }
    Ok(())
}

/// The last file counts, as in transformers, whatever the index says.
#[test]
fn a_tensor_in_two_files_is_reported() -> Result<()> {
    let (directory, _) = SHARDED.random(&llama());
    let read = |index: usize| {
        candle_core::safetensors::load(directory.path().join(shard(index)), &Device::Cpu)
    };
    let (name, tensor) = read(0)?.into_iter().min_by_key(|(name, _)| name.clone()).expect("one");
    let mut last = read(2)?;
    last.insert(name.clone(), (tensor * 2.0)?);
    candle_core::safetensors::save(&last, directory.path().join(shard(2)))?;
    let loaded = loaded(directory.path())?;
    let now = loaded.get(&name).expect("the tensor").flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(now, last[&name].flatten_all()?.to_vec1::<f32>()?);
    let checkpoint = Checkpoint::open(directory.path())?;
    let remarks = checkpoint.remarks(&checkpoint.outline()?).join("\n");
    for part in [shard(0), shard(2), format!("both hold `{name}`")] {
        assert!(remarks.contains(&part), "{part} not in {remarks}");
    }
    Ok(())
}

/// Files written by PyTorch: whole and sharded, without name prefixes, in f32 and f16.
#[test]
fn pickles_are_read_and_reported() -> Result<()> {
    for (name, dtype, files) in [("opt_odd", DType::F32, 2), ("opt_plain", DType::F16, 1)] {
        let checkpoint = Checkpoint::open(&recording(name))?;
        assert_eq!(checkpoint.format(), Format::Pickle);
        assert_eq!(checkpoint.format().to_string(), "PyTorch pickle");
        assert_eq!(checkpoint.storage_dtype(), dtype);
        assert_eq!(checkpoint.files().len(), files);
        let weights = loaded(&recording(name))?;
        assert!(weights.get("model.decoder.layers.1.fc2.bias").is_some());
        assert_eq!(weights.len(), checkpoint.outline()?.tensors.len());
    }
    Ok(())
}

/// Some files omit the prefix of the whole model, or that of OPT's decoder.
#[test]
fn names_may_lack_their_prefix() -> Result<()> {
    for (config, cut) in [(llama(), "model."), (opt(), "model."), (opt(), "model.decoder.")] {
        let whole = tensors(&config, &Key::root(3), DType::F32, &Device::Cpu)?;
        let short = |name: &str| name.strip_prefix(cut).unwrap_or(name).to_owned();
        let bare = whole.iter().map(|(name, tensor)| (short(name), tensor.clone())).collect();
        let directory = tempfile::tempdir().expect("a directory");
        PLAIN.write(directory.path(), &config, &bare);
        assert_eq!(first_difference(&loaded(directory.path())?, &whole)?, None, "{cut}");
    }
    Ok(())
}

/// A classifier without a mark in its configuration is recognised by its tensors.
#[test]
fn a_classifier_is_known_by_its_tensors() -> Result<()> {
    let weights = tensors(&classifier(), &Key::root(3), DType::F32, &Device::Cpu)?;
    for architectures in [json!(null), json!(["Qwen3ForCausalLM"]), json!(["Qwen3Model"])] {
        let silent = json!({ "architectures": architectures, "id2label": null });
        let directory = tempfile::tempdir().expect("a directory");
        PLAIN.write(directory.path(), &with(classifier(), silent), &weights);
        let model = load_directory(directory.path(), DType::F32, &Device::Cpu)?;
        assert_eq!(model.architecture().labels, Some(3), "{architectures}");
        assert!(model.tensors().get("score.weight").is_some());
    }
    Ok(())
}

/// The hub's cache consists of links into another directory.
#[cfg(unix)]
#[test]
fn links_are_followed() -> Result<()> {
    let (blobs, weights) = SHARDED.random(&llama());
    let snapshot = blobs.path().join("snapshots/1");
    std::fs::create_dir_all(&snapshot).expect("a directory");
    for name in ["config.json".to_owned(), INDEX.to_owned(), shard(0), shard(1), shard(2)] {
        let target = Path::new("../..").join(&name);
        std::os::unix::fs::symlink(target, snapshot.join(&name)).expect("a link");
    }
    assert_eq!(first_difference(&loaded(&snapshot)?, &weights)?, None);
    Ok(())
}

#[test]
fn an_index_does_not_lead_out_of_its_directory() {
    let (directory, _) = SHARDED.random(&llama());
    let (elsewhere, _) = PLAIN.random(&llama());
    let absolute = elsewhere.path().join("model.safetensors").display().to_string();
    for place in [absolute.as_str(), "../model.safetensors", "parts/../../x", ".", ""] {
        let index = json!({ "weight_map": { "model.norm.weight": place } });
        std::fs::write(directory.path().join(INDEX), index.to_string()).expect("a file");
        refused(directory.path(), &[INDEX, &format!("`{place}`")]);
    }
    for (index, text) in [("{}", "weight_map"), ("{", "JSON"), (r#"{"weight_map":{"a":1}}"#, "`a`")]
    {
        std::fs::write(directory.path().join(INDEX), index).expect("a file");
        refused(directory.path(), &[INDEX, text]);
    }
}

#[test]
fn missing_and_incomplete_shards_are_named() {
    let (directory, weights) = SHARDED.random(&llama());
    let file = directory.path().join(shard(1));
    let whole = std::fs::read(&file).expect("a shard");
    std::fs::remove_file(&file).expect("a shard");
    refused(directory.path(), &[&shard(1), "missing", INDEX]);

    // A valid file without the tensors that the index lists.
    let stray = weights.get("lm_head.weight").expect("a tensor").clone();
    let stray = HashMap::from([("other.weight".to_owned(), stray)]);
    candle_core::safetensors::save(&stray, &file).expect("a shard");
    refused(directory.path(), &[&shard(1), "does not hold `model.layers."]);

    for length in [0, 7, 100, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).expect("a part of it");
        refused(directory.path(), &[&shard(1), "not a complete safetensors file"]);
    }
}

#[test]
fn damaged_pickles_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = recording("opt_plain");
    std::fs::copy(source.join("config.json"), directory.path().join("config.json"))
        .expect("a copy");
    let whole = std::fs::read(source.join("pytorch_model.bin")).expect("a pickle");
    let file = directory.path().join("pytorch_model.bin");
    for bytes in [&whole[..whole.len() / 2], b"", b"\x80\x02}q\x00."] {
        std::fs::write(&file, bytes).expect("a file");
        refused(directory.path(), &["pytorch_model.bin", "without running code"]);
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() -> Result<()> {
    let config = llama();
    let weights = tensors(&config, &Key::root(3), DType::F32, &Device::Cpu)?;
    let norm = "model.layers.1.input_layernorm.weight";
    let refused_with = |name: &str, tensor: Option<Tensor>, texts: &[&str]| {
        let all = weights.clone().into_iter().filter(|(known, _)| known != name);
        let all = all.chain(tensor.map(|tensor| (name.to_owned(), tensor))).collect();
        let directory = tempfile::tempdir().expect("a directory");
        PLAIN.write(directory.path(), &config, &all);
        refused(directory.path(), texts);
    };
    let device = &Device::Cpu;
    refused_with(norm, None, &[norm, "layers.1.input_layernorm.weight` is missing"]);
    let short = "(nor is `layers.1.input_layernorm.weight`)";
    refused_with(norm, None, &[&format!("`{norm}` is missing {short}")]);
    let other = Tensor::zeros(11, DType::F32, device)?;
    refused_with(norm, Some(other), &[norm, "[11]", "[12]"]);
    let whole = Tensor::zeros(12, DType::I64, device)?;
    refused_with(norm, Some(whole), &[norm, "I64"]);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut gains = vec![1f32; 12];
        gains[7] = value;
        let text = f64::from(value).to_string();
        refused_with(norm, Some(Tensor::new(gains, device)?), &[norm, &text]);
    }
    Ok(())
}

/// One token more than the embedding, as if a padding token had been added to one of the two.
#[test]
fn a_vocabulary_of_another_size_is_refused() -> Result<()> {
    let weights = tensors(&llama(), &Key::root(3), DType::F32, &Device::Cpu)?;
    let directory = tempfile::tempdir().expect("a directory");
    PLAIN.write(directory.path(), &with(llama(), json!({ "vocab_size": 24 })), &weights);
    refused(directory.path(), &["embed_tokens", "[23, 12]", "[24, 12]"]);
    Ok(())
}

#[test]
fn directories_without_a_model_are_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    refused(&directory.path().join("nowhere"), &["nowhere", "no such directory"]);
    refused(directory.path(), &["config.json", "cannot be read"]);
    std::fs::write(directory.path().join("adapter_config.json"), "{}").expect("a file");
    refused(directory.path(), &["is an adapter"]);
    std::fs::write(directory.path().join("config.json"), llama().to_string()).expect("a file");
    refused(directory.path(), &["none of model.safetensors", "pytorch_model.bin"]);
    std::fs::write(directory.path().join("config.json"), "[").expect("a file");
    refused(directory.path(), &["config.json", "not JSON"]);
}
