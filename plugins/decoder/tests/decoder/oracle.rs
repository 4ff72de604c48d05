//! The same logits as the models of candle-transformers.
//!
//! Those return the logits after the last token alone, so every prefix is compared. They lack OPT,
//! other head widths, and windows in some layers only; recordings cover these.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, qwen2, qwen3};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vxf_core::metric::Model;
use vxf_core::{Key, Padding, Params, Result};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_testkit::batches::Rows;
use vxf_testkit::case::property;
use vxf_testkit::checkpoint::tensors;
use vxf_testkit::numbers::entries;

use crate::files::Storage;
use crate::shapes::with;

/// Logits after the last of some tokens.
type Forward = Box<dyn FnMut(&Tensor) -> candle_core::Result<Tensor>>;

fn read<T: DeserializeOwned>(config: &Value) -> T {
    serde_json::from_value(config.clone()).expect("all keys that candle-transformers needs")
}

fn theirs(config: &Value, weights: &Params) -> candle_core::Result<Forward> {
    let named = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
    Ok(match config["model_type"].as_str().unwrap_or_default() {
        "llama" => {
            let config = read::<llama::LlamaConfig>(config).into_config(false);
            let model = llama::Llama::load(builder, &config)?;
            Box::new(move |tokens| {
                let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
                model.forward(tokens, 0, &mut cache)
            })
        }
        "mistral" => {
            let mut model = mistral::Model::new(&read(config), builder)?;
            Box::new(move |tokens| {
                model.clear_kv_cache();
                model.forward(tokens, 0)?.squeeze(1)
            })
        }
        "qwen2" => {
            let mut model = qwen2::ModelForCausalLM::new(&read(config), builder)?;
            Box::new(move |tokens| {
                model.clear_kv_cache();
                model.forward(tokens, 0)?.squeeze(1)
            })
        }
        "qwen3" => {
            let mut model = qwen3::ModelForCausalLM::new(&read(config), builder)?;
            Box::new(move |tokens| {
                model.clear_kv_cache();
                model.forward(tokens, 0)?.squeeze(1)
            })
        }
        other => panic!("no oracle for {other}"),
    })
}

/// Compares our model, read from files of one kind, with theirs after every prefix.
fn compare(config: &Value, their_config: &Value, storage: Storage, seed: u64) -> Result<()> {
    let key = Key::root(seed);
    // Rounded to the file's type, so that both have the same weights.
    let stored = tensors(config, &key, storage.dtype, &Device::Cpu)?;
    let wide = stored.map(|tensor| Ok(tensor.to_dtype(DType::F32)?))?;
    let directory = tempfile::tempdir().expect("a directory");
    storage.write(directory.path(), config, &stored);
    let checkpoint = Checkpoint::open(directory.path())?;
    assert_eq!(checkpoint.storage_dtype(), storage.dtype);
    let ours = load_backbone(&checkpoint, DType::F32, &Device::Cpu)?;

    let vocabulary = ours.architecture().vocabulary;
    // Always on the CPU, because candle's own models have no kernels elsewhere.
    let batch = Rows::random(2, 9, vocabulary, &key).batch(&Device::Cpu)?;
    // Whole rows: theirs knows no padding.
    let batch = batch.with_padding(Padding::Seen);
    let logits = Model { backbone: &*ours, weights: &Params::new() }.logits(&batch)?;
    let logits = batch.rows().padded(&logits)?;
    let mut theirs = theirs(their_config, &wide)?;
    for length in 1..=batch.shape().1 {
        let prefix = batch.tokens.narrow(1, 0, length)?.contiguous()?;
        let theirs = theirs(&prefix)?;
        let own = logits.narrow(1, length - 1, 1)?.squeeze(1)?;
        for (a, b) in entries(&own)?.iter().zip(entries(&theirs)?) {
            // Two f32 programs: up to three layers of sums over some dozen products of entries
            // near one, and angles rounded in different places.
            assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{length}: {a} {b}");
        }
    }
    Ok(())
}

/// Random settings that all four have.
fn shapes() -> impl Strategy<Value = Value> {
    let heads = prop_oneof![Just((4usize, 4usize)), Just((4, 2)), Just((4, 1)), Just((6, 3))];
    let theta = prop_oneof![Just(10_000.0), Just(500_000.0), Just(100.0)];
    let epsilon = prop_oneof![Just(1e-6), Just(1e-5), Just(1e-2)];
    let sizes = (1usize..=3, 1usize..=3, 5usize..=41);
    (heads, theta, epsilon, sizes, any::<bool>()).prop_map(
        |((heads, kv_heads), theta, epsilon, (layers, half, vocabulary), tied)| {
            json!({
                "hidden_size": heads * half * 2, "num_hidden_layers": layers,
                "num_attention_heads": heads, "num_key_value_heads": kv_heads,
                "intermediate_size": 10 + vocabulary / 2, "vocab_size": vocabulary,
                "rms_norm_eps": epsilon, "rope_theta": theta, "tie_word_embeddings": tied,
                "max_position_embeddings": 16, "hidden_act": "silu",
                "head_dim": half * 2,
            })
        },
    )
}

fn law(changes: Value, their_changes: Value) {
    property(10, (shapes(), Storage::any(), any::<u64>()), |(shape, storage, seed)| {
        let ours = with(shape, changes.clone());
        compare(&ours, &with(ours.clone(), their_changes.clone()), storage, seed)
    });
}

#[test]
fn llama_matches_candle_transformers() {
    law(json!({ "model_type": "llama" }), json!({}));
}

#[test]
fn stretched_llama_matches_candle_transformers() {
    let scaling = json!({
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64, "rope_type": "llama3",
    });
    law(json!({ "model_type": "llama", "rope_scaling": scaling }), json!({}));
}

/// Their window has one key more than Hugging Face's: a window of 3 there is one of 4 here.
#[test]
fn mistral_matches_candle_transformers() {
    let untied = json!({
        "model_type": "mistral", "tie_word_embeddings": false, "sliding_window": null,
    });
    law(untied.clone(), json!({}));
    law(with(untied, json!({ "sliding_window": 4 })), json!({ "sliding_window": 3 }));
}

/// As for Mistral; theirs has the window in all layers.
#[test]
fn qwen2_matches_candle_transformers() {
    let all = json!({
        "model_type": "qwen2", "use_sliding_window": false, "sliding_window": 99,
        "max_window_layers": 0,
    });
    law(all.clone(), json!({}));
    let window = json!({ "use_sliding_window": true, "sliding_window": 3 });
    law(with(all, window), json!({ "sliding_window": 2 }));
}

#[test]
fn qwen3_matches_candle_transformers() {
    let all = json!({
        "model_type": "qwen3", "use_sliding_window": false, "sliding_window": null,
        "max_window_layers": 0, "attention_bias": false, "head_dim": 10,
    });
    law(all.clone(), json!({}));
    law(with(all, json!({ "attention_bias": true })), json!({}));
}
