//! The tokenizer files that belong to the metadata of a GGUF file.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Codes of `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// GPT-2's splitting of a text, which the byte-level step of `tokenizer.json` has built in.
fn gpt2(steps: &mut Vec<Value>) {
    steps.push(json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    }));
}

/// The splitting by an expression, before bytes are merged.
fn expression(pattern: &str, steps: &mut Vec<Value>) {
    let regex = json!({ "Regex": pattern });
    steps.push(json!({
        "type": "Split", "pattern": regex, "behavior": "Isolated", "invert": false,
    }));
    steps.push(json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    }));
}

/// The pieces of Llama 3; Qwen 2 has single digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.json` and `tokenizer_config.json`.
///
/// # Errors
/// When the tokenizer is of a kind that is not supported, or incomplete.
pub(super) fn files(metadata: &Map<String, Value>) -> Result<(Value, Value), String> {
    let entry = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"));
    let list = |key: &str| {
        let list = entry(key).and_then(Value::as_array);
        list.ok_or_else(|| format!("has no list `tokenizer.ggml.{key}`"))
    };
    let tokens: Vec<&str> = list("tokens")?.iter().filter_map(Value::as_str).collect();
    let kinds = entry("token_type").and_then(Value::as_array);
    let kind = |id: usize| kinds.and_then(|kinds| kinds.get(id)?.as_i64()).unwrap_or(1);
    let flag = |key: &str| entry(key).and_then(Value::as_bool);
    let role = |key: &str| {
        let id = entry(&format!("{key}_token_id")).and_then(Value::as_u64)?;
        tokens.get(usize::try_from(id).ok()?).copied()
    };
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let added: Vec<Value> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| matches!(kind(*id), CONTROL | USER_DEFINED))
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": kind(id) == CONTROL,
            })
        })
        .collect();
    let model = entry("model").and_then(Value::as_str).unwrap_or_default();
    let (adds_bos, merges, parts) = match model {
        "gpt2" => (false, list("merges")?.clone(), byte_level(entry("pre"))?),
        "llama" => {
            let space = flag("add_space_prefix").unwrap_or(true);
            (true, merges(&tokens, list("scores")?), pieces(space))
        }
        other => {
            return Err(format!(
                "has a tokenizer of the kind {other:?}; supported are gpt2 and llama"
            ));
        }
    };
    let bos = role("bos").filter(|_| flag("add_bos_token").unwrap_or(adds_bos));
    let around = bos.map(|token| {
        json!({
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": token, "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "SpecialToken": { "id": token, "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": {
                token: { "id": token, "ids": [vocabulary[token]], "tokens": [token] },
            },
        })
    });
    let unknown = role("unknown").filter(|_| model == "llama");
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.splitting,
        "post_processor": around,
        "decoder": parts.decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": model == "llama", "byte_fallback": model == "llama",
            "ignore_merges": entry("pre").is_some_and(|pre| pre == "llama-bpe"),
            "vocab": vocabulary, "merges": merges,
        },
    });
    let mut settings = json!({
        "bos_token": role("bos"),
        "eos_token": role("eos"),
        "unk_token": role("unknown"),
        "pad_token": role("padding"),
        "chat_template": metadata.get("tokenizer.chat_template"),
    });
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|_, value| !value.is_null());
    }
    Ok((tokenizer, settings))
}

/// The steps before and after the merges.
struct Parts {
    normalizer: Value,
    splitting: Value,
    decoder: Value,
}

/// The steps of a byte-level tokenizer.
fn byte_level(pre: Option<&Value>) -> Result<Parts, String> {
    let mut steps = Vec::new();
    let mut normalizer = Value::Null;
    match pre.and_then(Value::as_str) {
        Some("gpt-2" | "gpt2") => gpt2(&mut steps),
        Some("smollm" | "codeshell" | "starcoder" | "refact" | "command-r") => {
            steps.push(json!({ "type": "Digits", "individual_digits": true }));
            gpt2(&mut steps);
        }
        Some("llama-bpe" | "llama3" | "llama-v3") => expression(LLAMA3, &mut steps),
        Some("qwen2") => {
            normalizer = json!({ "type": "NFC" });
            expression(&LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"), &mut steps);
        }
        other => {
            return Err(format!(
                "splits texts as {:?} (`tokenizer.ggml.pre`), which is not supported; use the \
                 model's own directory",
                other.unwrap_or_default()
            ));
        }
    }
    let decoder = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
    });
    Ok(Parts {
        normalizer,
        splitting: json!({ "type": "Sequence", "pretokenizers": steps }),
        decoder,
    })
}

/// The steps of a tokenizer of pieces with scores (SentencePiece); `space` puts one before a text.
fn pieces(space: bool) -> Parts {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let mut before = Vec::new();
    if space {
        before.push(json!({ "type": "Prepend", "prepend": "▁" }));
    }
    before.push(replace);
    let mut after = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space {
        after.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Parts {
        normalizer: json!({ "type": "Sequence", "normalizers": before }),
        splitting: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": after }),
    }
}

/// The merges that pieces with scores imply: all pairs of pieces that make a piece, the result with
/// the highest score first.
fn merges(tokens: &[&str], scores: &[Value]) -> Vec<Value> {
    let ids: HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    let mut all: Vec<(f64, usize, usize, usize)> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        let score = scores.get(id).and_then(Value::as_f64).unwrap_or_default();
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                all.push((score, id, left, right));
            }
        }
    }
    all.sort_by(|one, other| {
        other.0.total_cmp(&one.0).then((one.1, one.2, one.3).cmp(&(other.1, other.2, other.3)))
    });
    all.into_iter().map(|(_, _, left, right)| json!([tokens[left], tokens[right]])).collect()
}
