//! Tiny model directories with the tokenizers of well-known families.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use vxf_data::{Codec, Result, TemplateChoice};

/// The regex of GPT-2.
pub(crate) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The regex of Llama 3: any case, numbers in groups of three.
pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The regex of Qwen: as Llama 3, with single digits.
pub(crate) const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const MERGES: [(&str, &str); 12] = [
    ("h", "e"),
    ("l", "l"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġ", "hello"),
    ("Ġ", "Ġ"),
    ("Ċ", "Ċ"),
    ("1", "2"),
    ("12", "3"),
    ("'", "ll"),
    (":", "Ċ"),
    ("a", "b"),
];

/// A directory of files.
pub(crate) struct Model(pub(crate) TempDir);

impl Model {
    pub(crate) fn new(files: &[(&str, Value)]) -> Self {
        let model = Self(tempfile::tempdir().expect("writable"));
        files.iter().for_each(|(name, value)| model.write(name, value));
        model
    }

    pub(crate) fn write(&self, name: &str, value: &Value) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fs::write(self.0.path().join(name), text).expect("writable");
    }

    pub(crate) fn open(&self, choice: TemplateChoice) -> Result<Codec> {
        Codec::open(self.0.path(), choice)
    }

    pub(crate) fn codec(&self, choice: TemplateChoice) -> Codec {
        self.open(choice).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn refused(&self, choice: TemplateChoice) -> String {
        self.open(choice).expect_err("not to be opened").to_string()
    }
}

/// The characters for the 256 bytes, in GPT-2's order.
fn alphabet() -> Vec<String> {
    let printed = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let letters = (0..256).filter(|byte| printed(*byte)).chain((256..).take(256 - 188));
    letters.filter_map(char::from_u32).map(String::from).collect()
}

/// The vocabulary of a byte-level BPE, special tokens last, and its merges.
fn bytes(specials: &[&str]) -> (Value, Vec<String>) {
    let mut tokens = alphabet();
    tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend(specials.iter().map(|token| (*token).to_owned()));
    let vocabulary: serde_json::Map<_, _> =
        tokens.into_iter().zip(0..).map(|(token, id)| (token, id.into())).collect();
    let merges = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();
    (Value::Object(vocabulary), merges)
}

fn added(token: &str, id: usize) -> Value {
    json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": true})
}

/// The first id of a special token in [`byte_level`].
pub(crate) const FIRST_SPECIAL: u32 = 256 + MERGES.len() as u32;

/// A byte-level `tokenizer.json` that splits by `regex` and begins every text with `bos`.
pub(crate) fn byte_level(regex: &str, specials: &[&str], bos: Option<&str>) -> Value {
    let (vocabulary, merges) = bytes(specials);
    let first = FIRST_SPECIAL as usize;
    let tokens: Vec<_> =
        specials.iter().enumerate().map(|(at, token)| added(token, first + at)).collect();
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
                       "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
                       "invert": false});
    json!({
        "version": "1.0", "added_tokens": tokens,
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "!"},
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": bos.map_or(level.clone(), |bos| before(bos, &vocabulary[bos], None)),
        "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "byte_fallback": false,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "ignore_merges": true, "vocab": vocabulary, "merges": merges},
    })
}

/// A post-processor that puts a token before every text, and optionally one after it.
fn before(bos: &str, id: &Value, eos: Option<(&str, usize)>) -> Value {
    let special = |token: &str, kind| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let sequence = |name: &str, kind| json!({"Sequence": {"id": name, "type_id": kind}});
    let mut single = vec![special(bos, 0), sequence("A", 0)];
    let mut tokens = serde_json::Map::new();
    tokens.insert(bos.into(), json!({"id": bos, "ids": [id], "tokens": [bos]}));
    if let Some((eos, id)) = eos {
        single.push(special(eos, 0));
        tokens.insert(eos.into(), json!({"id": eos, "ids": [id], "tokens": [eos]}));
    }
    json!({"type": "TemplateProcessing", "single": single, "special_tokens": tokens,
           "pair": [sequence("A", 0), sequence("B", 1)]})
}

/// A `tokenizer.json` in the style of Llama 2: `▁` for spaces, bytes for unknown characters.
pub(crate) fn sentence_piece(with_eos: bool) -> Value {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let letters = "▁abehlo:R".chars().map(String::from);
    tokens.extend(letters);
    let merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello"), ("▁", "▁")];
    let merges = merges.iter().chain(&[("a", "b")]);
    tokens.extend(merges.clone().map(|(left, right)| format!("{left}{right}")));
    let vocabulary: serde_json::Map<_, _> =
        tokens.into_iter().zip(0..).map(|(token, id)| (token, id.into())).collect();
    let specials: Vec<_> =
        ["<unk>", "<s>", "</s>"].iter().enumerate().map(|(id, token)| added(token, id)).collect();
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": specials,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
        "pre_tokenizer": null,
        "post_processor": before("<s>", &json!(1), with_eos.then_some(("</s>", 2))),
        "decoder": {"type": "Sequence", "decoders": [
            replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary,
                  "merges": merges.map(|(left, right)| format!("{left} {right}")).collect::<Vec<_>>()},
    })
}

/// The special tokens in Llama 2's `tokenizer_config.json`.
pub(crate) fn llama2_config() -> Value {
    json!({"bos_token": "<s>", "unk_token": "<unk>", "add_bos_token": true,
           "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": false,
                         "normalized": false, "rstrip": false, "single_word": false}})
}

/// Llama 2.
pub(crate) fn llama2() -> Model {
    Model::new(&[
        ("tokenizer.json", sentence_piece(false)),
        ("tokenizer_config.json", llama2_config()),
        ("config.json", json!({"model_type": "llama", "eos_token_id": 2})),
    ])
}

/// Llama 3, with two end tokens in `generation_config.json`.
pub(crate) fn llama3() -> Model {
    let specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"];
    let ends = [FIRST_SPECIAL + 1, FIRST_SPECIAL + 2];
    Model::new(&[
        ("tokenizer.json", byte_level(LLAMA3, &specials, Some("<|begin_of_text|>"))),
        ("tokenizer_config.json", json!({"bos_token": specials[0], "eos_token": specials[2]})),
        ("generation_config.json", json!({"eos_token_id": ends})),
        ("config.json", json!({"model_type": "llama", "eos_token_id": 0})),
    ])
}

/// Qwen: no start token.
pub(crate) fn qwen() -> Model {
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    Model::new(&[
        ("tokenizer.json", byte_level(QWEN, &specials, None)),
        ("tokenizer_config.json", json!({"bos_token": null, "eos_token": specials[2]})),
        ("config.json", json!({"model_type": "qwen2"})),
    ])
}

/// OPT, with the files of GPT-2.
pub(crate) fn opt() -> Model {
    let (vocabulary, merges) = bytes(&["<pad>", "</s>", "<unk>"]);
    let token = |text: &str| {
        json!({"content": text, "lstrip": false, "normalized": true,
                                    "rstrip": false, "single_word": false})
    };
    Model::new(&[
        ("vocab.json", vocabulary),
        ("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n")).into()),
        (
            "special_tokens_map.json",
            json!({"bos_token": token("</s>"), "eos_token": token("</s>"),
                                           "unk_token": token("</s>"), "pad_token": token("<pad>")}),
        ),
        ("tokenizer_config.json", json!({"add_bos_token": true, "add_prefix_space": false})),
        ("config.json", json!({"model_type": "opt", "eos_token_id": FIRST_SPECIAL + 1})),
    ])
}

/// The tokens of a text as texts of the vocabulary.
pub(crate) fn pieces(codec: &Codec, text: &str) -> Vec<String> {
    let ids = codec.tokens(text).expect("any text has tokens");
    ids.iter().filter_map(|id| codec.tokenizer().id_to_token(*id)).collect()
}

/// A model of byte-level tokens, whose special tokens have the first ids from [`FIRST_SPECIAL`] on.
pub(crate) fn special(files: &[(&str, serde_json::Value)]) -> Model {
    let model = Model::new(&[("tokenizer.json", byte_level(QWEN, &["<|one|>", "<|two|>"], None))]);
    files.iter().for_each(|(name, value)| model.write(name, value));
    model
}
