//! What comes with a model: configuration, weights, adapters, tokenizer, template.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use vxf_builtins as _;
use vxf_core::checkpoint::Checkpoint;
use vxf_core::config::load_backbone;
use vxf_core::{Lora, Trainable, peft};
use vxf_data::TemplateChoice::{Alpaca, Auto, Chat};
use vxf_data::{Ask, Codec, Message, Role, Sample, TemplateChoice};
use vxf_testkit::checkpoint::LlamaShape;

use crate::common::Place;
use crate::driver::Format;
use crate::formats::{SMALL, shown};

/// What opening a tokenizer and using it may take beyond twice its file: patterns are compiled, and a
/// template as long as the largest of these files may be turned into as many tokens, many times.
const TOKENIZER: usize = 96 << 20;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Puts a tiny Llama with a tokenizer of bytes into `place`.
fn llama(place: &Path, shard_bytes: u64) {
    let made = Place::new();
    let from = made.llama("model", shard_bytes);
    for entry in std::fs::read_dir(from).expect("a model") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, place.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

fn specimen(place: &Path, file: &str) -> Vec<u8> {
    std::fs::read(place.join(file)).expect("a specimen")
}

/// Configurations of all families.
pub(crate) fn config(place: &Path) -> Format {
    llama(place, u64::MAX);
    let mut specimens = vec![specimen(place, "config.json")];
    for folder in ["tests/goldens", "tests/recordings"] {
        for entry in std::fs::read_dir(repository(folder)).expect("recordings") {
            let file = entry.expect("an entry").path().join("config.json");
            specimens.extend(std::fs::read(file).ok());
        }
    }
    assert!(specimens.len() > 8, "{}", specimens.len());
    Format {
        file: "config.json",
        specimens,
        words: &[
            "\"head_dim\":",
            "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,",
            "null",
            "\"sliding_window\":",
            "\"num_labels\":",
            "\"model_type\":\"opt\"",
            "\"tie_word_embeddings\":true,",
            "\"quantization_config\":{}",
            "\"eos_token_id\":[1,2]",
            "{",
            "}",
            "[",
            "]",
            ",",
            "true",
        ],
        read: Box::new(|place| {
            let checkpoint = Checkpoint::open(place).map_err(shown)?;
            let outline = checkpoint.outline().map_err(shown)?;
            outline.count();
            checkpoint.storage_dtype();
            let _ = outline.parameters(&Trainable::Lora(Lora::default()));
            // The weights are one model's, and will seldom go with the configuration.
            let _ = load_backbone(&checkpoint, DType::F32, &Device::Cpu);
            Ok(())
        }),
        named: &["config.json", "`"],
        memory: 32 << 20,
    }
}

/// Indexes of several files.
pub(crate) fn index(place: &Path) -> Format {
    llama(place, 8_000);
    Format {
        file: "model.safetensors.index.json",
        specimens: vec![specimen(place, "model.safetensors.index.json")],
        words: &[
            "../",
            "/etc/passwd",
            "..\\\\",
            "\\u0000",
            ".",
            "/",
            "config.json",
            "tokenizer.json",
            "\"weight_map\":",
            "null",
            "{}",
            "model.safetensors.index.json",
            "model-00001-of-00003.safetensors",
        ],
        read: Box::new(|place| Checkpoint::open(place).map(drop).map_err(shown)),
        named: &["index.json", "safetensors"],
        memory: SMALL,
    }
}

/// A model so small that most of its file is the header.
fn smallest() -> LlamaShape {
    LlamaShape {
        hidden: 4,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        intermediate: 4,
        vocabulary: 5,
        ..LlamaShape::default()
    }
}

fn safetensors(tensors: impl Iterator<Item = (String, Tensor)>, place: &Path) -> Vec<u8> {
    let path = place.join("made.safetensors");
    candle_core::safetensors::save(&tensors.collect::<HashMap<_, _>>(), &path).expect("tensors");
    let bytes = std::fs::read(&path).expect("tensors");
    std::fs::remove_file(path).expect("it was there");
    bytes
}

const HEADER_WORDS: &[&str] = &[
    "\"dtype\":\"I64\"",
    "\"dtype\":\"F8_E4M3\"",
    "\"dtype\":\"BOOL\"",
    "\"shape\":[",
    "\"data_offsets\":[0,",
    "\"__metadata__\":{\"format\":\"pt\"},",
    "18446744073709551615",
    "-1",
    "{}",
    "[]",
    "null",
    "}",
    ",",
];

/// Weights as safetensors.
pub(crate) fn weights(place: &Path) -> Format {
    let shape = smallest();
    std::fs::write(place.join("config.json"), shape.config().to_string()).expect("written");
    let key = vxf_core::Key::root(1);
    let types = [DType::F32, DType::BF16, DType::F16, DType::F64];
    let specimens = types.map(|dtype| {
        let tensors = shape.tensors(&key, dtype, &Device::Cpu).expect("tensors");
        safetensors(tensors.into_iter(), place)
    });
    Format {
        file: "model.safetensors",
        specimens: specimens.to_vec(),
        words: HEADER_WORDS,
        read: Box::new(|place| {
            let checkpoint = Checkpoint::open(place).map_err(shown)?;
            load_backbone(&checkpoint, DType::F32, &Device::Cpu).map_err(shown)?;
            Ok(())
        }),
        // A tensor is named by the directory of its model.
        named: &["model.safetensors", "tensor `"],
        memory: SMALL,
    }
}

/// A pickle in a fresh archive each time, so that no checksum keeps its faults from the reader.
pub(crate) fn pickle(place: &Path) -> Format {
    let from = repository("tests/recordings/opt_plain/adapter_init");
    std::fs::copy(from.join("adapter_config.json"), place.join("adapter_config.json"))
        .expect("a copy");
    let bytes = std::fs::read(from.join("adapter_model.bin")).expect("an archive");
    let mut archive =
        zip::ZipArchive::new(std::io::Cursor::new(bytes.clone())).expect("an archive");
    let names: Vec<String> =
        archive.file_names().map(|name| name.expect("a name").into_owned()).collect();
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    for name in names {
        let mut content = Vec::new();
        std::io::copy(&mut archive.by_name(&name).expect("a part"), &mut content).expect("read");
        parts.push((name, content));
    }
    let at = parts.iter().position(|(name, _)| name.ends_with("data.pkl")).expect("a pickle");
    let (name, pickle) = parts.remove(at);
    Format {
        file: "data.pkl",
        specimens: vec![pickle],
        words: &[
            "cos\nsystem\n",
            "cbuiltins\neval\n",
            "X\u{4}\0\0\0true",
            "q\0",
            "h\0h\0\u{86}q\0",
            "(",
            "t",
            "R",
            "}",
            "]",
            "N",
            ".",
            "ctorch._utils\n_rebuild_tensor_v2\n",
            "K\u{1}",
            "J\u{7f}\u{7f}\u{7f}\u{7f}",
        ],
        read: Box::new(move |place| {
            let pickle = std::fs::read(place.join("data.pkl")).expect("a case");
            let file = std::fs::File::create(place.join("adapter_model.bin")).expect("a file");
            let mut archive = zip::ZipWriter::new(file);
            let stored = zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored);
            let pickled = [(name.clone(), pickle)];
            for (name, content) in pickled.iter().chain(&parts) {
                archive.start_file(name.as_str(), stored).expect("a part");
                archive.write_all(content).expect("written");
            }
            archive.finish().expect("written");
            peft::read(place, DType::F32, &Device::Cpu).map(drop).map_err(shown)
        }),
        named: &["adapter_model.bin", "adapter_config.json"],
        memory: 48 << 20,
    }
}

/// PEFT's settings.
pub(crate) fn adapter_config(place: &Path) -> Format {
    let from = repository("tests/recordings/opt_plain/adapter_init");
    for file in ["adapter_config.json", "adapter_model.bin"] {
        std::fs::copy(from.join(file), place.join(file)).expect("a copy");
    }
    Format {
        file: "adapter_config.json",
        specimens: vec![specimen(place, "adapter_config.json")],
        words: &[
            "\"r\":",
            "\"lora_alpha\":",
            "\"target_modules\":",
            "\"use_rslora\":true,",
            "\"bias\":\"all\",",
            "\"rank_pattern\":{\"a\":1},",
            "\"peft_type\":\"LORA\",",
            "null",
            "[]",
            "{}",
            "\"x\"",
            ",",
        ],
        read: Box::new(|place| {
            let (lora, weights) = peft::read(place, DType::F32, &Device::Cpu).map_err(shown)?;
            lora.scale();
            weights.names().for_each(|name| _ = lora.targets(name));
            Ok(())
        }),
        named: &["adapter_config.json", "adapter_model.bin", "`"],
        memory: SMALL,
    }
}

/// Adapters as safetensors.
pub(crate) fn adapter_weights(place: &Path) -> Format {
    let lora = Lora { rank: 2, target_modules: vec!["q_proj".into()], ..Lora::default() };
    let module = "model.layers.0.self_attn.q_proj";
    let tensor =
        |shape: (usize, usize)| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("ones");
    let weights = [(Lora::a_of(module), tensor((2, 4))), (Lora::b_of(module), tensor((4, 2)))];
    peft::write(place, &lora, &weights.into_iter().collect(), None).expect("an adapter");
    Format {
        file: "adapter_model.safetensors",
        specimens: vec![specimen(place, "adapter_model.safetensors")],
        words: HEADER_WORDS,
        read: Box::new(|place| {
            peft::read(place, DType::F32, &Device::Cpu).map(drop).map_err(shown)
        }),
        named: &["adapter_model.safetensors"],
        memory: SMALL,
    }
}

/// Opens the tokenizer and template in `place` and puts samples through them.
fn converse(place: &Path, template: TemplateChoice) -> Result<(), String> {
    let codec = Codec::open(place, template).map_err(shown)?;
    let turn = |role, content: &str| Message { role, content: content.into() };
    let asks = [
        Ask::instruction("placeholder \u{e9} request"),
        Ask::Messages(vec![
            turn(Role::System, "placeholder"),
            turn(Role::User, "one"),
            turn(Role::Assistant, "two"),
            turn(Role::User, "three"),
        ]),
    ];
    let _ = codec.fits(1000);
    codec.opening("yes");
    let mut told = Ok(());
    for (number, ask) in asks.into_iter().enumerate() {
        let sample = Sample { ask, answer: "placeholder answer".into() };
        let read =
            codec.encode(&sample, 400).and_then(|encoded| codec.decode(&encoded.example.tokens));
        // Templates may refuse a system's turn.
        if number == 0 {
            told = read.map(drop).map_err(shown);
        }
    }
    told
}

fn wordlevel() -> Value {
    json!({ "version": "1.0", "added_tokens": [
            { "id": 0, "content": "</s>", "special": true, "single_word": false, "lstrip": false,
              "rstrip": false, "normalized": false },
        ],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " },
            { "type": "NFKC" }, { "type": "Lowercase" }, { "type": "Strip", "strip_left": true, "strip_right": true },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": "(?i:'s|'t)|\\s+(?!\\S)|\\s+" }, "behavior": "Removed", "invert": false },
            { "type": "Digits", "individual_digits": true }, { "type": "Punctuation", "behavior": "Isolated" },
        ] },
        "post_processor": null,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordLevel", "vocab": { "</s>": 0, "[UNK]": 1, "placeholder": 2, "answer": 3 },
            "unk_token": "[UNK]" },
    })
}

fn unigram() -> Value {
    json!({ "version": "1.0", "added_tokens": [],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": { "type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["▁", -2.0], ["a", -3.0], ["e", -3.5], ["▁pl", -1.0]] },
    })
}

fn wordpiece() -> Value {
    json!({ "version": "1.0", "added_tokens": [],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1] },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": { "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##n": 4, "</s>": 5 } },
    })
}

fn named() -> &'static [&'static str] {
    &["tokenizer", "chat_template.jinja", "vocab.json"]
}

/// Tokenizers of all kinds.
pub(crate) fn tokenizer(place: &Path) -> Format {
    llama(place, u64::MAX);
    let made = [wordlevel(), unigram(), wordpiece()].map(|value| value.to_string().into_bytes());
    let mut specimens = vec![specimen(place, "tokenizer.json")];
    specimens.extend(made);
    Format {
        file: "tokenizer.json",
        specimens,
        words: &[
            "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"},",
            "{\"Regex\":\"(a+)+$\"}",
            "{\"Regex\":\"(?=(a*))*\"}",
            "{\"Regex\":\"\"}",
            "\"type\":\"BPE\",",
            "\"type\":\"Unigram\",",
            "null",
            "[]",
            "{}",
            "\"vocab\":",
            "\"merges\":[\"a b\"],",
            "\"ids\":[1,2,3],",
            "\"Sequence\"",
            "\"unk_id\":",
            "\"\"",
            "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}",
            "\"stride\":9",
            "\"truncation\":",
        ],
        read: Box::new(|place| converse(place, Alpaca)),
        named: named(),
        memory: TOKENIZER,
    }
}

const CHATML: &str = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '</s>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/// What is said of special tokens, with a template.
pub(crate) fn tokenizer_config(place: &Path) -> Format {
    llama(place, u64::MAX);
    let token = |content: &str| json!({ "content": content, "lstrip": false, "special": true });
    let whole = json!({
        "bos_token": token("<s>"), "eos_token": "</s>", "unk_token": { "content": "<unk>" },
        "add_bos_token": true, "add_prefix_space": false, "model_max_length": 1e30,
        "added_tokens_decoder": { "0": token("<unk>"), "1": token("<s>"), "2": token("</s>") },
        "chat_template": [{ "name": "default", "template": CHATML }, { "name": "tool_use", "template": "{{ 1 }}" }],
    });
    Format {
        file: "tokenizer_config.json",
        specimens: vec![
            specimen(place, "tokenizer_config.json"),
            whole.to_string().into_bytes(),
            json!({ "eos_token": "</s>", "chat_template": CHATML }).to_string().into_bytes(),
        ],
        words: &[
            "\"chat_template\":",
            "{{ messages }}",
            "{% for m in messages %}",
            "{% endfor %}",
            "null",
            "[]",
            "{}",
            "\"name\":\"default\"",
            "\"eos_token\":",
            "\"4294967296\":",
            "\"special\":true",
            "\"\"",
            ",",
        ],
        read: Box::new(|place| converse(place, Auto)),
        named: named(),
        memory: TOKENIZER,
    }
}

/// Chat templates, with all that a template can try.
pub(crate) fn chat_template(place: &Path) -> Format {
    llama(place, u64::MAX);
    let templates = [
        CHATML,
        "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}{% else %}{% set turns = messages %}{% set system = false %}{% endif %}{% for turn in turns %}{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + turn['content'] %}{% else %}{% set content = turn['content'] %}{% endif %}{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        "{%- set ns = namespace(system='A chat.', n=0) -%}{%- macro turn(m) -%}{{ m.role | upper }}: {{ m.content | trim }}{%- endmacro -%}{%- for message in messages -%}{%- if message.role == 'system' -%}{%- set ns.system = message.content -%}{%- else -%}{%- set ns.n = ns.n + 1 -%}{{- turn(message) -}}{%- if message.role == 'assistant' -%}{{- eos_token -}}{%- endif -%}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}ASSISTANT: {%- endif -%}",
        "{{ messages | tojson(indent=2) | length }}{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{{ eos_token }}{% endfor %}{{ strftime_now('%Y') }}",
    ];
    Format {
        file: "chat_template.jinja",
        specimens: templates[..3].iter().map(|text| text.as_bytes().to_vec()).collect(),
        words: &[
            "{% for a in range(99999) %}",
            "{% endfor %}",
            "{{ 'x' * 999999999 }}",
            "{% set ns.system = ns.system ~ ns.system %}",
            "{{ messages | tojson }}",
            "{% macro m(n) %}{{ m(n+1) }}{% endmacro %}{{ m(0) }}",
            "{{ raise_exception('no') }}",
            "{% include 'x' %}",
            "{{ self }}",
            "{{ messages | map(attribute='x') | list }}",
            "{{ 10 ** 10 ** 10 }}",
            "{{ 1 // 0 }}",
            "{{ 1 % 0 }}",
            "{{ -9223372036854775808 // -1 }}",
            "{{ 'a'.replace('', 'bb') }}",
            "{{ '%s' % x }}",
            "{{ messages[::-1] }}",
            "{{ messages[99999999999999999999:] }}",
            "{{ x.y.z }}",
            "{{ '' | indent(99999999) }}",
            "{{ ns.n ~ ns.n }}",
            "{% raw %}",
            "{#",
            "#}",
            "{{",
            "}}",
            "{%",
            "%}",
            "| tojson",
            "-%}",
        ],
        read: Box::new(|place| converse(place, Chat)),
        named: named(),
        memory: 64 << 20,
    }
}

/// A tokenizer in two files, as GPT-2 and OPT have it.
pub(crate) fn vocabulary(place: &Path) -> Format {
    llama(place, u64::MAX);
    let whole: Value = serde_json::from_slice(&specimen(place, "tokenizer.json")).expect("JSON");
    std::fs::remove_file(place.join("tokenizer.json")).expect("it was there");
    std::fs::write(place.join("merges.txt"), "#version: 0.2\na n\ne r\n").expect("written");
    let mut vocabulary = whole["model"]["vocab"].clone();
    (vocabulary["an"], vocabulary["er"]) = (json!(259), json!(260));
    Format {
        file: "vocab.json",
        specimens: vec![vocabulary.to_string().into_bytes()],
        words: &["\"a\":", "\"\":", "-1", "null", "{}", "4294967295", "\"an\":1,", ","],
        read: Box::new(|place| converse(place, Alpaca)),
        named: named(),
        memory: TOKENIZER,
    }
}
