//! Tiny model directories with a byte tokenizer, for judges with a model.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;
use vxf_core::config::BuildContext;
use vxf_core::metric::{Generation, Prompt};
use vxf_core::{Key, Params, Result};
use vxf_decoder as _;
use vxf_hf::checkpoint::Checkpoint;

/// The id of the byte `b` is `b`; special tokens follow.
pub(crate) const BOS: u32 = 256;
pub(crate) const EOS: u32 = 257;
pub(crate) const VOCABULARY: usize = 260;

/// A prompt and its answer.
pub(crate) fn said(prompt: &str, answer: &str) -> Generation {
    let prompt = Prompt { text: prompt.into(), tokens: Vec::new(), expected: None, group: None };
    Generation { prompt, answer: answer.into() }
}

/// The expected tokens of a text: `BOS`, then its bytes, with `</s>` as `EOS`.
pub(crate) fn tokens(text: &str) -> Vec<u32> {
    let mut tokens = vec![BOS];
    for (index, part) in text.split("</s>").enumerate() {
        tokens.extend((index > 0).then_some(EOS));
        tokens.extend(part.bytes().map(u32::from));
    }
    tokens
}

/// A directory with this model and the byte tokenizer.
pub(crate) fn directory(config: Value, tensors: Params) -> TempDir {
    let place = tempfile::tempdir().expect("writable");
    let checkpoint = Checkpoint::made("tiny", config, tensors);
    checkpoint.export(&place.path().join("model"), 1 << 20).expect("writable");
    let letter = |byte: u32| {
        let printed = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let shifted = 256 + (0..byte).filter(|byte| !printed(*byte)).count() as u32;
        char::from_u32(if printed(byte) { byte } else { shifted }).expect("a letter")
    };
    let mut vocabulary: serde_json::Map<_, _> =
        (0..256).map(|byte| (letter(byte).to_string(), byte.into())).collect();
    vocabulary.insert("<s>".into(), BOS.into());
    vocabulary.insert("</s>".into(), EOS.into());
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let start = json!({"type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}});
    write(
        &place,
        "tokenizer.json",
        &json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [special(BOS, "<s>"), special(EOS, "</s>")],
            "pre_tokenizer": bytes, "post_processor": start, "decoder": bytes,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                      "vocab": vocabulary, "merges": []},
        }),
    );
    write(&place, "tokenizer_config.json", &json!({"bos_token": "<s>", "eos_token": "</s>"}));
    place
}

/// Writes a file into the model directory.
pub(crate) fn write(place: &TempDir, name: &str, value: &Value) {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fs::write(place.path().join("model").join(name), text).expect("writable");
}

/// Runs `judge` in a context where every model name means the model in `place`.
pub(crate) fn with<T>(place: &Path, judge: impl FnOnce(&BuildContext<'_>) -> T) -> T {
    let model = place.join("model");
    let find = move |name: &str| {
        assert!(!name.is_empty());
        Ok(model.clone())
    };
    judge(&BuildContext { device: &Device::Cpu, model: &find })
}

/// The configuration of a small Llama.
pub(crate) fn config(width: usize, architecture: &str) -> Value {
    json!({
        "model_type": "llama", "architectures": [architecture], "vocab_size": VOCABULARY,
        "hidden_size": width, "intermediate_size": width, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 400,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "eos_token_id": EOS, "pad_token_id": VOCABULARY - 1, "hidden_act": "silu",
    })
}

/// Random weights for a configuration.
pub(crate) fn random(config: &Value, seed: u64) -> Result<Params> {
    vxf_testkit::checkpoint::tensors(config, &Key::root(seed), DType::F32, &Device::Cpu)
}

/// A model that generates, after each byte, the next byte in one of these words.
pub(crate) fn chain(words: &[&str]) -> Result<(Value, Params)> {
    let config = config(VOCABULARY, "LlamaForCausalLM");
    let mut tensors = random(&config, 1)?.zeros_like()?;
    let square = (VOCABULARY, VOCABULARY);
    let mut next = vec![0f32; VOCABULARY * VOCABULARY];
    for word in words {
        let ids: Vec<_> = word.bytes().map(usize::from).chain([EOS as usize]).collect();
        for pair in ids.windows(2) {
            next[pair[1] * VOCABULARY + pair[0]] = 1.0;
        }
    }
    tensors.insert("lm_head.weight", Tensor::from_vec(next, square, &Device::Cpu)?);
    let one = Tensor::eye(VOCABULARY, DType::F32, &Device::Cpu)?;
    tensors.insert("model.embed_tokens.weight", one);
    let gain = Tensor::ones(VOCABULARY, DType::F32, &Device::Cpu)?;
    tensors.insert("model.norm.weight", gain);
    Ok((config, tensors))
}
