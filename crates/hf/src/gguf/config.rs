//! The `config.json` that belongs to the metadata of a GGUF file.

use std::path::Path;

use serde_json::{Map, Value, json};
use vxf_untrusted::gguf::{Gguf, header};

/// The architecture of a file.
///
/// # Errors
/// When the file does not say.
pub(super) fn architecture(metadata: &Map<String, Value>) -> Result<&str, String> {
    let named = metadata.get("general.architecture").and_then(Value::as_str);
    named.ok_or_else(|| "has no `general.architecture`".to_owned())
}

/// The configuration of the model in `file`.
///
/// # Errors
/// When the architecture is not supported, or a size is missing.
pub(super) fn of(file: &Path) -> Result<Value, String> {
    let Gguf { metadata, tensors } = header(file)?;
    let architecture = architecture(&metadata)?;
    let model_type = match architecture {
        "llama" | "qwen2" | "qwen3" => architecture,
        "gemma2" => "gemma2",
        "gemma3" => "gemma3_text",
        other => {
            return Err(format!(
                "has the architecture {other}; supported are llama, qwen2, qwen3, gemma2 and gemma3"
            ));
        }
    };
    let entry = |key: &str| metadata.get(&format!("{architecture}.{key}")).cloned();
    let needed = |key: &str| entry(key).ok_or_else(|| format!("has no `{architecture}.{key}`"));
    let shape = |name: &str| tensors.get(name).map(|tensor| tensor.shape.as_slice());
    let vocabulary = shape("token_embd.weight").and_then(|shape| shape.first().copied());
    let mut config = json!({
        "model_type": model_type,
        "hidden_size": needed("embedding_length")?,
        "intermediate_size": needed("feed_forward_length")?,
        "num_hidden_layers": needed("block_count")?,
        "num_attention_heads": needed("attention.head_count")?,
        "num_key_value_heads": entry("attention.head_count_kv"),
        "head_dim": entry("attention.key_length").or_else(|| entry("rope.dimension_count")),
        "max_position_embeddings": needed("context_length")?,
        "rms_norm_eps": needed("attention.layer_norm_rms_epsilon")?,
        "vocab_size": vocabulary.ok_or("has no tensor `token_embd.weight`")?,
        "tie_word_embeddings": !tensors.contains_key("output.weight"),
        "sliding_window": entry("attention.sliding_window"),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
    });
    for key in CHANGING {
        let plain = |value: &Value| {
            value.as_f64().is_some_and(|value| value == 0.0 || value == 1.0) || *value == true
        };
        if let Some(value) = entry(key).filter(|value| !plain(value)) {
            return Err(format!("has `{architecture}.{key}` = {value}, which is not supported"));
        }
    }
    if let (Some(turned), Some(width)) =
        (entry("rope.dimension_count"), entry("attention.key_length"))
        && turned != width
    {
        return Err(format!(
            "turns {turned} of the {width} dimensions of a head (`rope.dimension_count`), which is not supported"
        ));
    }
    let theta = entry("rope.freq_base").unwrap_or(json!(10_000.0));
    config["rope_parameters"] = match entry("rope.scaling.type").as_ref().and_then(Value::as_str) {
        // Older files have the factor of linear scaling alone.
        None if entry("rope.scale_linear").is_some() => json!({
            "rope_type": "linear", "rope_theta": theta, "factor": entry("rope.scale_linear"),
        }),
        None | Some("none") => json!({ "rope_type": "default", "rope_theta": theta }),
        Some(kind @ ("linear" | "yarn")) => json!({
            "rope_type": kind,
            "rope_theta": theta,
            "factor": needed("rope.scaling.factor")?,
            "original_max_position_embeddings": entry("rope.scaling.original_context_length"),
            "beta_fast": entry("rope.scaling.yarn_beta_fast"),
            "beta_slow": entry("rope.scaling.yarn_beta_slow"),
        }),
        Some(other) => {
            return Err(format!("has the rotary scaling {other}, which is not supported"));
        }
    };
    if model_type == "llama" {
        let biases = |part: &str| tensors.contains_key(&format!("blk.0.{part}.bias"));
        config["attention_bias"] = json!(biases("attn_q"));
        config["mlp_bias"] = json!(biases("ffn_up"));
    }
    if architecture.starts_with("gemma") {
        // llama.cpp knows by the number of layers that the largest models scale scores by the width that
        // heads would have, and all others by the width that they have.
        let layers = config["num_hidden_layers"].as_u64();
        let number = |key: &str| config[key].as_f64().unwrap_or_default();
        config["query_pre_attn_scalar"] = match (architecture, layers) {
            ("gemma2", Some(46)) | ("gemma3", Some(62)) => {
                json!(number("hidden_size") / number("num_attention_heads"))
            }
            _ => config["head_dim"].clone(),
        };
        config["attn_logit_softcapping"] = json!(entry("attn_logit_softcapping"));
        config["final_logit_softcapping"] = json!(entry("final_logit_softcapping"));
    }
    if model_type == "gemma3_text" {
        let full = config["rope_parameters"].take();
        let local = entry("rope.freq_base_swa").unwrap_or(json!(10_000.0));
        config["rope_parameters"] = json!({
            "full_attention": full,
            "sliding_attention": { "rope_type": "default", "rope_theta": local },
        });
    }
    without_nulls(&mut config);
    Ok(config)
}

/// Keys of an architecture that change what a model computes, in ways that are not supported; 0, 1 and true
/// change nothing.
const CHANGING: [&str; 9] = [
    "attention.causal",
    "attention.scale",
    "embedding_scale",
    "expert_count",
    "logit_scale",
    "residual_scale",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_ext_factor",
];

/// Takes what a file does not say out of an object and the objects in it.
fn without_nulls(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(without_nulls);
    }
}
