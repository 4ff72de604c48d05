//! Reading configurations: defaults of the families, older and newer spellings, errors.

use serde_json::{Value, json};
use vxf_core::Lora;
use vxf_core::Trainable;
use vxf_hf::{Outline, outline};

use crate::shapes::{all, checkpoint, llama, mistral, opt, qwen2, qwen3, with};

fn outlined(config: &Value) -> Outline {
    outline(config, "here").expect("a configuration that is supported")
}

#[track_caller]
fn refused(config: Value, texts: &[&str]) {
    let message = outline(&config, "here").expect_err("refused").to_string();
    let texts = texts.iter().chain(&["here"]);
    for text in texts {
        assert!(message.contains(text), "{text:?} is not in: {message}");
    }
}

/// The outline lists exactly the loaded tensors.
#[test]
fn an_outline_is_the_model_without_weights() {
    for (name, config) in all() {
        let outline = outlined(&config);
        let model = crate::shapes::model(&checkpoint(config));
        assert_eq!(outline.architecture, *model.architecture(), "{name}");
        assert_eq!(outline.count(), model.tensors().count(), "{name}");
        let mut names: Vec<_> = outline.tensors.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert!(model.tensors().names().eq(names), "{name}");
        for (name, shape) in &outline.tensors {
            assert_eq!(model.tensors().get(name).expect("a tensor").dims(), shape);
        }
        let trainable = Trainable::Lora(Lora { rank: 2, ..Lora::default() });
        let adapted = model.with_trainable(&trainable).expect("its own layers");
        assert_eq!(outline.parameters(&trainable).expect("its own layers"), adapted.parameters());
    }
}

/// Published counts: 7B, 8B, 7B, 0.5B (tied), 8B, 125M, 350M.
#[test]
fn sizes_are_those_of_known_models() {
    let llama = |config| with(json!({ "model_type": "llama" }), config);
    let llama2 = json!({
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 32000,
    });
    assert_eq!(outlined(&llama(llama2)).count(), 6_738_415_616);
    let llama3 = json!({
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "rope_theta": 500000.0, "tie_word_embeddings": false,
        "rope_scaling": {
            "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
    });
    assert_eq!(outlined(&llama(llama3)).count(), 8_030_261_248);
    let mistral = json!({
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
    });
    assert_eq!(outlined(&mistral).count(), 7_241_732_096);
    let qwen2 = json!({
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "vocab_size": 151936, "tie_word_embeddings": true,
    });
    assert_eq!(outlined(&qwen2).count(), 494_032_768);
    let qwen3 = json!({
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 151936,
    });
    assert_eq!(outlined(&qwen3).count(), 8_190_735_360);
    let opt = json!({
        "model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "vocab_size": 50272,
    });
    assert_eq!(outlined(&opt).count(), 125_239_296);
    let opt_350m = json!({
        "model_type": "opt", "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "vocab_size": 50272, "word_embed_proj_dim": 512,
        "do_layer_norm_before": false,
    });
    assert_eq!(outlined(&opt_350m).count(), 331_196_416);
}

/// A null is a missing key, and missing keys have the defaults of transformers.
#[test]
fn nulls_and_gaps_are_defaults() {
    let bare = json!({
        "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1,
        "num_attention_heads": 4, "vocab_size": 11,
    });
    let of = |model_type: &str, more: Value| {
        outlined(&with(with(bare.clone(), json!({ "model_type": model_type })), more))
    };
    let keys = |outline: &Outline| {
        let name = "model.layers.0.self_attn.k_proj.weight";
        outline.shape(name).expect("a projection").to_vec()
    };
    assert_eq!(keys(&of("llama", json!({}))), [16, 16]);
    assert_eq!(of("llama", json!({})).architecture.positions, 2048);
    assert_eq!(
        of("mistral", json!({ "num_key_value_heads": null })).architecture.positions,
        131_072
    );
    assert_eq!(keys(&of("qwen2", json!({ "num_key_value_heads": 2 }))), [8, 16]);
    assert_eq!(keys(&of("qwen3", json!({ "num_key_value_heads": 2 }))), [256, 16]);
    let nulls = json!({
        "head_dim": null, "num_key_value_heads": null, "rope_scaling": null, "rope_theta": null,
        "rms_norm_eps": null, "hidden_act": null, "sliding_window": null, "pad_token_id": null,
        "attention_bias": null, "tie_word_embeddings": null, "layer_types": null,
        "max_position_embeddings": null, "use_sliding_window": null, "architectures": null,
        "quantization_config": null, "attention_dropout": null, "max_window_layers": null,
    });
    for model_type in ["llama", "mistral", "qwen2", "qwen3"] {
        assert_eq!(keys(&of(model_type, nulls.clone())), [16, 16], "{model_type}");
        assert!(of(model_type, nulls.clone()).shape("lm_head.weight").is_some());
    }
    let opt = with(opt(), json!({ "word_embed_proj_dim": null, "tie_word_embeddings": null }));
    assert!(outlined(&opt).shape("lm_head.weight").is_none(), "OPT is tied by default");
    let biased = |model_type: &str| {
        let outline = of(model_type, json!({ "num_key_value_heads": 4 }));
        ["q_proj", "k_proj", "v_proj", "o_proj"]
            .map(|name| outline.shape(&format!("model.layers.0.self_attn.{name}.bias")).is_some())
    };
    assert_eq!(biased("qwen2"), [true, true, true, false]);
    assert_eq!(biased("qwen3"), [false; 4]);
}

#[test]
fn unsupported_settings_are_named_with_their_values() {
    let set = |config: Value, key: &str, value: Value| with(config, json!({ key: value }));
    for (config, key, value, texts) in [
        (llama(), "hidden_act", json!("gelu"), vec!["hidden_act", "gelu", "silu"]),
        (opt(), "activation_function", json!("gelu"), vec!["activation_function", "gelu", "relu"]),
        (opt(), "layerdrop", json!(0.2), vec!["layerdrop", "0.2"]),
        (
            llama(),
            "rope_scaling",
            json!({ "type": "ntk", "factor": 2.0 }),
            vec!["rope_scaling", "ntk", "llama3", "yarn"],
        ),
        (
            qwen3(),
            "rope_parameters",
            json!({ "rope_type": "axial", "factor": 4.0 }),
            vec!["rope_parameters", "axial"],
        ),
        (
            qwen3(),
            "rope_parameters",
            json!({ "full_attention": { "rope_theta": 1e4 } }),
            vec!["rope_parameters"],
        ),
        (llama(), "partial_rotary_factor", json!(0.5), vec!["partial_rotary_factor", "0.5"]),
        (
            llama(),
            "quantization_config",
            json!({ "quant_method": "gptq" }),
            vec!["quantization_config", "gptq"],
        ),
        (llama(), "is_causal", json!(false), vec!["is_causal", "false"]),
        (
            qwen2(),
            "layer_types",
            json!(["full_attention", "linear_attention"]),
            vec!["layer_types", "linear_attention"],
        ),
        (
            llama(),
            "model_type",
            json!("falcon"),
            vec!["falcon", "llama", "mistral", "opt", "qwen2"],
        ),
    ] {
        let error = outline(&set(config.clone(), key, value.clone()), "here");
        let kind = error.expect_err("refused");
        assert!(matches!(kind, vxf_core::Error::Unsupported { .. }), "{kind}");
        refused(set(config, key, value), &texts);
    }
}

#[test]
fn invalid_settings_are_named_with_their_values() {
    for (config, key, value, texts) in [
        (llama(), "hidden_size", json!(null), vec!["hidden_size", "missing"]),
        (llama(), "hidden_size", json!("wide"), vec!["hidden_size", "wide"]),
        (llama(), "hidden_size", json!(0), vec!["hidden_size", "at least 1", "0"]),
        (llama(), "vocab_size", json!(1e30), vec!["vocab_size"]),
        (llama(), "vocab_size", json!(u64::MAX), vec!["vocab_size"]),
        (llama(), "num_hidden_layers", json!(4_000_000_000u64), vec!["num_hidden_layers", "10000"]),
        (llama(), "num_key_value_heads", json!(3), vec!["num_key_value_heads", "3"]),
        (llama(), "head_dim", json!(5), vec!["head_dim", "even", "5"]),
        (llama(), "rms_norm_eps", json!(-1e-6), vec!["rms_norm_eps", "positive"]),
        (llama(), "rope_theta", json!(0), vec!["rope_theta", "positive"]),
        (llama(), "attention_bias", json!("yes"), vec!["attention_bias", "true or false"]),
        (llama(), "rope_scaling", json!("linear"), vec!["rope_scaling", "object"]),
        (llama(), "rope_scaling", json!({ "type": "linear" }), vec!["rope_scaling", "factor"]),
        (
            llama(),
            "rope_scaling",
            json!({ "rope_type": "llama3", "factor": 8.0 }),
            vec!["rope_scaling", "low_freq_factor"],
        ),
        (mistral(), "sliding_window", json!(0), vec!["sliding_window"]),
        (qwen2(), "layer_types", json!(["full_attention"]), vec!["layer_types", "2", "1"]),
        (qwen2(), "pad_token_id", json!("x"), vec!["pad_token_id"]),
        (opt(), "dropout", json!(1.0), vec!["dropout", "below 1"]),
        (opt(), "hidden_size", json!(13), vec!["hidden_size", "13", "num_attention_heads"]),
        (opt(), "model_type", json!(null), vec!["model_type"]),
    ] {
        refused(with(config, json!({ key: value })), &texts);
    }
    refused(json!([]), &["model_type"]);
}

/// A head for another task is no language model's, even where the model is tied.
#[test]
fn heads_for_other_tasks_are_refused() {
    let of = |class: &str| with(qwen2(), json!({ "architectures": [class] }));
    for class in [
        "Qwen2ForTokenClassification",
        "Qwen2ForQuestionAnswering",
        "Qwen2ForProcessRewardModel",
        "Qwen2RewardModel",
    ] {
        refused(of(class), &["`architectures`", class]);
    }
    for class in ["Qwen2ForCausalLM", "Qwen2Model", "Qwen2ForConditionalGeneration"] {
        let outline = outlined(&of(class));
        assert_eq!(outline, outlined(&qwen2()), "{class}");
        outline.language_model("here").expect("a language model");
    }
    let classifier = outlined(&of("Qwen2ForSequenceClassification"));
    let error = classifier.language_model("my/model").expect_err("a classifier").to_string();
    for text in ["my/model", "sequence classifier", "`score.weight`", "2 labels"] {
        assert!(error.contains(text), "{error}");
    }
}
