//! Tokenizers, special tokens, and chat templates.

use std::path::Path;

use serde_json::{Value, json};
use vxf_data::TemplateChoice::{Alpaca, Auto, Chat};
use vxf_data::{Ask, Codec, Message, Role, Sample, TemplateChoice};

use crate::driver::Format;
use crate::formats::shown;
use crate::models::{llama, specimen};

/// Memory limit for opening and using a tokenizer, beyond twice its file: patterns are compiled, and a
/// template as long as the largest of these files may become as many tokens, many times.
const TOKENIZER: usize = 96 << 20;

/// Opens the tokenizer and template in `place` and encodes samples.
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
    let codec = codec.clone().for_vocabulary(1000);
    codec.opening("yes");
    let mut told = Ok(());
    for (number, ask) in asks.into_iter().enumerate() {
        let sample = Sample { ask, answer: "placeholder answer".into() };
        let read =
            codec.encode(&sample, 400).and_then(|encoded| codec.decode(&encoded.example.tokens));
        // Templates may reject a system turn.
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

/// The configuration of special tokens, with a template.
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

/// Chat templates with everything that a template can try.
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
    let name = "tokenizer_config.json";
    let mut settings: Value = serde_json::from_slice(&specimen(place, name)).expect("JSON");
    settings["tokenizer_class"] = json!("GPT2Tokenizer");
    std::fs::write(place.join(name), settings.to_string()).expect("written");
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
