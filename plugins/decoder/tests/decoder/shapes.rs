//! Tiny configurations of all families, and models of them.

use std::sync::Arc;

use candle_core::DType;
use serde_json::{Value, json};
use vxf_core::{Backbone, Lora, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_testkit::checkpoint::random;

/// `base` with some keys changed.
pub(crate) fn with(mut base: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().expect("an object") {
        base[key] = value.clone();
    }
    base
}

fn rotary(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 12, "intermediate_size": 14,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 23, "rms_norm_eps": 1e-5, "rope_theta": 500.0,
        "max_position_embeddings": 24, "tie_word_embeddings": false, "head_dim": null,
        "rope_scaling": null,
    })
}

/// A Llama whose heads together are wider than the model, with biases everywhere and scaled rotary
/// positions.
pub(crate) fn llama() -> Value {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    });
    let biases = json!({
        "attention_bias": true, "mlp_bias": true, "head_dim": 6, "rope_scaling": scaling,
    });
    with(with(rotary("llama"), json!({ "head_dim": 4 })), biases)
}

/// A Mistral whose window is shorter than the sequences.
pub(crate) fn mistral() -> Value {
    with(rotary("mistral"), json!({ "sliding_window": 3, "head_dim": 4 }))
}

/// A tied Qwen2 whose second layer has a window.
pub(crate) fn qwen2() -> Value {
    let window = json!({
        "use_sliding_window": true, "sliding_window": 2, "max_window_layers": 1, "head_dim": 4,
    });
    with(with(rotary("qwen2"), json!({ "tie_word_embeddings": true })), window)
}

/// A Qwen3 in the newer spelling.
pub(crate) fn qwen3() -> Value {
    let newer = json!({
        "rope_theta": null, "rope_parameters": { "rope_theta": 700.0, "rope_type": "default" },
        "head_dim": 4, "sliding_window": null, "dtype": "float32",
    });
    with(rotary("qwen3"), newer)
}

/// A common OPT: norms first, tied.
pub(crate) fn opt() -> Value {
    json!({
        "model_type": "opt", "hidden_size": 12, "ffn_dim": 14, "num_hidden_layers": 2,
        "num_attention_heads": 3, "vocab_size": 23, "max_position_embeddings": 20,
        "do_layer_norm_before": true, "word_embed_proj_dim": 12, "dropout": 0.0,
        "pad_token_id": null,
    })
}

/// An OPT like the one of 350 million weights: norms after, narrow embeddings; here with dropout
/// and an output of its own.
pub(crate) fn opt_post_norm() -> Value {
    let changes = json!({
        "do_layer_norm_before": false, "word_embed_proj_dim": 7, "tie_word_embeddings": false,
        "dropout": 0.2,
    });
    with(opt(), changes)
}

/// An OPT without optional keys.
pub(crate) fn opt_bare() -> Value {
    let changes = json!({
        "enable_bias": false, "layer_norm_elementwise_affine": false,
        "_remove_final_layer_norm": true,
    });
    with(opt(), changes)
}

fn gemma(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 12, "intermediate_size": 14,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 6, "query_pre_attn_scalar": 5, "vocab_size": 23, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 24, "tie_word_embeddings": true, "sliding_window": 3,
        "hidden_activation": "gelu_pytorch_tanh",
        // The embedding of a padding token, 0 by default, gets no gradient: laws compare gradients with slopes.
        "pad_token_id": null,
        "layer_types": ["sliding_attention", "full_attention"],
    })
}

/// A Gemma 2: soft caps, four norms, a window in the first layer.
pub(crate) fn gemma2() -> Value {
    let caps = json!({
        "attn_logit_softcapping": 1.5, "final_logit_softcapping": 3.0, "rope_theta": 500.0,
    });
    with(gemma("gemma2"), caps)
}

/// A Gemma 3: norms of queries and keys, two rotary bases.
pub(crate) fn gemma3() -> Value {
    let bases = json!({ "rope_theta": 500.0, "rope_local_base_freq": 70.0 });
    with(gemma("gemma3_text"), bases)
}

/// A Phi-3 whose heads rotate in part; its projections are stored joined.
pub(crate) fn phi3() -> Value {
    let partial = json!({ "head_dim": 6, "partial_rotary_factor": 0.67, "hidden_size": 24 });
    with(rotary("phi3"), partial)
}

/// A classifier of three labels.
pub(crate) fn classifier() -> Value {
    let changes = json!({
        "architectures": ["Qwen3ForSequenceClassification"],
        "id2label": { "0": "a", "1": "b", "2": "c" },
    });
    with(qwen3(), changes)
}

/// The adapter for the same layers of this model: Phi-3 stores some of them joined.
pub(crate) fn suited(lora: &Lora, config: &Value) -> Lora {
    let joined = |target: &String| match target.as_str() {
        "q_proj" | "k_proj" | "v_proj" => "qkv_proj".to_owned(),
        "gate_proj" | "up_proj" => "gate_up_proj".to_owned(),
        other => other.replace(".v_proj", ".qkv_proj"),
    };
    let mut lora = lora.clone();
    if config["model_type"] == "phi3" {
        let mut targets: Vec<String> = lora.target_modules.iter().map(joined).collect();
        targets.sort_unstable();
        targets.dedup();
        lora.target_modules = targets;
    }
    lora
}

/// All configurations, by name.
pub(crate) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("llama", llama()),
        ("mistral", mistral()),
        ("qwen2", qwen2()),
        ("qwen3", qwen3()),
        ("opt", opt()),
        ("opt_post_norm", opt_post_norm()),
        ("opt_bare", opt_bare()),
        ("gemma2", gemma2()),
        ("gemma3", gemma3()),
        ("phi3", phi3()),
        ("classifier", classifier()),
    ]
}

/// A checkpoint with random weights in f64.
pub(crate) fn checkpoint(config: Value) -> Checkpoint {
    random(config, 5).expect("a configuration that is supported")
}

/// The model of a checkpoint in f64.
pub(crate) fn model(checkpoint: &Checkpoint) -> Arc<dyn Backbone> {
    load_backbone(checkpoint, DType::F64, vxf_testkit::device()).expect("a whole checkpoint")
}

/// A model with random weights.
pub(crate) fn made(config: Value, dtype: DType, trainable: &Trainable) -> Arc<dyn Backbone> {
    let model = load_backbone(&checkpoint(config), dtype, vxf_testkit::device());
    let model = model.expect("a whole checkpoint");
    model.with_trainable(trainable).expect("its own layers")
}
