//! Tokens of texts; the expected tokens are those of Python's `tokenizers`.

use serde_json::json;
use vxf_data::TemplateChoice::{Alpaca, Plain, World};

use crate::models::{
    FIRST_SPECIAL, GPT2, LLAMA3, Model, QWEN, byte_level, llama2, llama2_config, llama3, opt,
    pieces, qwen, sentence_piece, special,
};

#[test]
fn byte_level_regexes_split_as_published() {
    for (regex, text, wanted) in [
        (GPT2, "hello hello", "hello Ġhello"),
        (GPT2, "I'LL  1234", "I ' L L Ġ Ġ 123 4"),
        (LLAMA3, "he'LL I'll", "he ' L L Ġ I 'll"),
        (LLAMA3, "1234  \n\n x", "123 4 ĠĠ ĊĊ Ġ x"),
        (QWEN, "1234  \n\n x", "1 2 3 4 ĠĠ ĊĊ Ġ x"),
        (QWEN, "a:\nhello", "a :Ċ hello"),
        (QWEN, "é", "Ã ©"),
        // NFC combines the letter and its accent.
        (QWEN, "e\u{301}", "Ã ©"),
    ] {
        let model = Model::new(&[("tokenizer.json", byte_level(regex, &[], None))]);
        let codec = model.codec(Plain);
        assert_eq!(pieces(&codec, text).join(" "), wanted, "{text}");
    }
    // On long runs of spaces a backtracking regex could fail.
    let codec = qwen().codec(Plain);
    let long = codec.tokens(&format!("{}x", " ".repeat(20_001))).expect("tokens");
    assert_eq!(long.len(), 10_002);
}

#[test]
fn the_start_token_is_added_and_truncation_is_off() {
    assert_eq!(pieces(&llama3().codec(Plain), "hello").join(" "), "<|begin_of_text|> hello");
    assert_eq!(pieces(&qwen().codec(Plain), "hello").join(" "), "hello");
    let text = "hello hello hello hello";
    assert_eq!(qwen().codec(Plain).tokens(text).expect("tokens").len(), 4);
    assert_eq!(pieces(&qwen().codec(Plain), "hello<|im_end|>").join(" "), "hello <|im_end|>");
}

#[test]
fn sentence_pieces_fall_back_to_bytes() {
    let codec = llama2().codec(Plain);
    assert_eq!(pieces(&codec, "hello  hello").join(" "), "<s> ▁hello ▁ ▁hello");
    assert_eq!(pieces(&codec, "é\n").join(" "), "<s> ▁ <0xC3> <0xA9> <0x0A>");
    assert_eq!(pieces(&codec, "hello</s>").join(" "), "<s> ▁hello </s>");
    assert_eq!(pieces(&codec, "").join(" "), "<s>");
    let ids = codec.tokens("hello é hello").expect("tokens");
    assert_eq!(codec.decode(&ids).as_deref().ok(), Some("hello é hello"));
}

/// Such a tokenizer splits a text differently each time.
#[test]
fn a_tokenizer_with_dropout_is_refused() {
    let mut own = sentence_piece(false);
    own["model"]["dropout"] = json!(0.5);
    let files =
        |tokenizer| [("tokenizer.json", tokenizer), ("tokenizer_config.json", llama2_config())];
    let error = Model::new(&files(own.clone())).refused(Plain);
    assert!(error.contains("`model.dropout` = 0.5") && error.contains("null"), "{error}");
    own["model"]["dropout"] = json!(null);
    assert_eq!(pieces(&Model::new(&files(own)).codec(Plain), "hello").join(" "), "<s> ▁hello");
}

/// Transformers 5 reads only the vocabulary of such a file.
#[test]
fn another_splitting_of_llamas_class_is_told() {
    let told = |class: &str, settings: serde_json::Value, tokenizer: &serde_json::Value| {
        let mut config = llama2_config();
        config["tokenizer_class"] = json!(class);
        config
            .as_object_mut()
            .expect("an object")
            .extend(settings.as_object().cloned().expect("one"));
        let files = [("tokenizer.json", tokenizer.clone()), ("tokenizer_config.json", config)];
        let codec = Model::new(&files).codec(Plain);
        codec.remarks().join("\n")
    };
    let old = sentence_piece(false);
    let with = |scheme: &str| {
        let mut new = old.clone();
        new["normalizer"] = json!(null);
        new["pre_tokenizer"] = json!({ "type": "Metaspace", "replacement": "▁",
                                       "prepend_scheme": scheme, "split": false });
        new
    };
    let (first, always) = (with("first"), with("always"));
    let legacy = |legacy: bool| json!({ "legacy": legacy });
    for (class, settings, tokenizer, differs) in [
        ("LlamaTokenizer", legacy(false), &old, true),
        ("LlamaTokenizerFast", json!({}), &old, true),
        ("LlamaTokenizer", legacy(true), &first, true),
        ("LlamaTokenizer", json!({ "add_prefix_space": false }), &first, true),
        ("LlamaTokenizer", legacy(false), &first, false),
        ("LlamaTokenizer", legacy(true), &always, false),
        ("CodeLlamaTokenizer", legacy(true), &old, true),
        ("CodeLlamaTokenizer", legacy(true), &first, false),
        ("PreTrainedTokenizerFast", legacy(false), &old, false),
    ] {
        let remark = told(class, settings.clone(), tokenizer);
        assert_eq!(!remark.is_empty(), differs, "{class} {settings}: {remark}");
        if differs {
            assert!(remark.contains("tokenizer.json is used as it is"), "{remark}");
            assert!(remark.contains("`legacy` = ") && remark.contains("PreTrainedTokenizerFast"));
        }
    }
}

/// As in transformers, spaces before punctuation are taken out, but not of BPE.
#[test]
fn decoded_texts_are_cleaned_up() {
    let pieces = ["<unk>", "▁", "a", ".", ",", "n't", "'", "'s"];
    let vocabulary: Vec<_> = pieces.iter().map(|piece| json!([piece, -1.0])).collect();
    let space = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true });
    let unigram = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": space,
        "decoder": space, "post_processor": null,
        "model": { "type": "Unigram", "unk_id": 0, "vocab": vocabulary },
    });
    let text = "a . a , a n't a ' a 's a";
    let read = |tokenizer: &serde_json::Value, config: serde_json::Value| {
        let model = Model::new(&[("tokenizer.json", tokenizer.clone())]);
        model.write("tokenizer_config.json", &config);
        let codec = model.codec(Plain);
        assert!(codec.remarks().is_empty(), "{:?}", codec.remarks());
        codec.decode(&codec.tokens(text).expect("tokens")).expect("a text")
    };
    let cleaned = "a. a, an't a'a's a";
    let (asked, even) = (
        json!({ "clean_up_tokenization_spaces": true }),
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
    );
    assert_eq!(read(&unigram, json!({})), text);
    assert_eq!(read(&unigram, json!({ "clean_up_tokenization_spaces": false })), text);
    assert_eq!(read(&unigram, asked.clone()), cleaned);
    let bpe = byte_level(QWEN, &[], None);
    assert_eq!(read(&bpe, asked.clone()), text);
    let mut both = asked;
    both[even] = json!(true);
    assert_eq!(read(&bpe, both), cleaned);
}

#[test]
fn contrastive_search_is_told() {
    let told = |settings| {
        special(&[("generation_config.json", settings)]).codec(Plain).remarks().join("\n")
    };
    let remark = told(json!({ "penalty_alpha": 0.6, "top_k": 4 }));
    assert!(remark.contains("`penalty_alpha` = 0.6 with `top_k` = 4"), "{remark}");
    for none in [
        json!({ "penalty_alpha": 0.6 }),
        json!({ "penalty_alpha": 0.6, "top_k": 1 }),
        json!({ "penalty_alpha": 0.6, "top_k": 4, "do_sample": true }),
        json!({ "penalty_alpha": 0.0, "top_k": 4 }),
    ] {
        assert_eq!(told(none), "");
    }
}

#[test]
fn tokens_after_a_text_are_left_out() {
    let model = Model::new(&[
        ("tokenizer.json", sentence_piece(true)),
        ("tokenizer_config.json", llama2_config()),
    ]);
    assert_eq!(pieces(&model.codec(Plain), "hello").join(" "), "<s> ▁hello");
}

#[test]
fn vocabulary_and_merges_make_a_tokenizer() {
    let model = opt();
    let codec = model.codec(Alpaca);
    assert_eq!(pieces(&codec, "hello hello").join(" "), "</s> hello Ġhello");
    assert_eq!(pieces(&codec, "ab</s>12").join(" "), "</s> ab </s> 12");
    assert_eq!((codec.eos(), codec.is_end(FIRST_SPECIAL + 1)), (Some("</s>"), true));
    let names: Vec<_> = codec.files().iter().filter_map(|file| file.file_name()).collect();
    let wanted = ["tokenizer_config.json", "special_tokens_map.json", "config.json", "vocab.json"];
    assert_eq!(names[..4], wanted);
    assert_eq!((names.len(), names[4].to_str()), (5, Some("merges.txt")));

    // GPT-2's files name no start token.
    model.write("tokenizer_config.json", &json!({"add_bos_token": false}));
    assert_eq!(pieces(&model.codec(Plain), "hello").join(" "), "hello");
    model
        .write("tokenizer_config.json", &json!({"add_prefix_space": true, "add_bos_token": false}));
    assert_eq!(pieces(&model.codec(Plain), "hello").join(" "), "Ġhello");
    // Without a setting, OPT has a start token.
    std::fs::remove_file(model.0.path().join("tokenizer_config.json")).expect("just written");
    assert_eq!(pieces(&model.codec(Plain), "hello").join(" "), "</s> hello");
}

#[test]
fn errors_say_what_is_missing_and_what_to_do() {
    let empty = Model::new(&[]);
    let error = empty.refused(Plain);
    assert!(error.contains("no tokenizer.json") && error.contains("save_pretrained"), "{error}");
    empty.write("tokenizer.model", &json!("binary"));
    let error = empty.refused(Plain);
    assert!(error.contains("only tokenizer.model") && error.contains("AutoTokenizer"), "{error}");
    empty.write("tokenizer.json", &json!({"version": "1.0"}));
    let error = empty.refused(Plain);
    assert!(error.contains("tokenizer.json: is not a tokenizer"), "{error}");
    empty.write("tokenizer_config.json", &json!("{"));
    let error = empty.refused(Plain);
    assert!(error.contains("tokenizer_config.json: is not JSON"), "{error}");

    let broken = opt();
    broken.write("merges.txt", &json!("#version: 0.2\nq zz\n"));
    assert!(broken.refused(Plain).contains("vocab.json"), "{}", broken.refused(Plain));
    broken.write("vocab.json", &json!([1]));
    assert!(broken.refused(Plain).contains("vocab.json"), "{}", broken.refused(Plain));
    let error = llama2().refused(World);
    assert!(error.contains("<pad> <bos> <bot> <eos>") && error.contains("alpaca"), "{error}");
}

#[test]
fn another_limit_of_answers_is_told() {
    let limited = |settings| special(&[("generation_config.json", settings)]).codec(Plain);
    let told = |settings| limited(settings).other_limit(64).expect("another limit");
    let new = told(json!({ "max_new_tokens": 512, "max_length": 9 }));
    assert!(new.contains("generation_config.json: `max_new_tokens` = 512"), "{new}");
    assert!(new.contains("up to 64 tokens"), "{new}");
    let all = told(json!({ "max_length": 4096 }));
    assert!(all.contains("`max_length` = 4096 (with the prompt)"), "{all}");
    for same in [json!({ "max_new_tokens": 64 }), json!({ "max_length": 20 }), json!({})] {
        assert_eq!(limited(same).other_limit(64), None);
    }
}

/// What PEFT saves beside an adapter.
#[test]
fn a_tokenizer_beside_an_adapter_is_compared_with_its_base() {
    const CONFIG: &str = "tokenizer_config.json";
    let compared = |base: &Model, adapter: &Model| {
        vxf_data::other_tokenizer(base.0.path(), adapter.0.path()).expect("a base")
    };
    let config = json!({ "eos_token": "<|one|>", "chat_template": "{{ messages }}" });
    let base = special(&[(CONFIG, config.clone())]);
    let adapter = Model::new(&[]);
    assert_eq!(compared(&base, &adapter), None);
    // Other words for the same, and a padding token, which changes nothing.
    adapter.write("chat_template.jinja", &json!("{{ messages }}\n"));
    adapter.write(CONFIG, &json!({ "eos_token": "<|one|>", "pad_token": "<|two|>" }));
    adapter.write("tokenizer.json", &byte_level(QWEN, &["<|one|>", "<|two|>"], None));
    assert_eq!(compared(&base, &adapter), None);

    adapter.write("chat_template.jinja", &json!("{{ messages[0] }}"));
    adapter.write("tokenizer.json", &byte_level(QWEN, &["<|one|>", "<|two|>", "<|new|>"], None));
    adapter.write(CONFIG, &json!({ "eos_token": "<|two|>" }));
    let remark = compared(&base, &adapter).expect("other files");
    for text in [
        &*adapter.0.path().to_string_lossy(),
        "the chat template",
        "the added tokens `<|new|>`",
        "`eos_token` is `<|two|>`, of the base `<|one|>`",
    ] {
        assert!(remark.contains(text), "{text}: {remark}");
    }
    // Only what was added.
    let decoder = |id: u32, token: &str| {
        let adapter = Model::new(&[]);
        let decoder = json!({ id.to_string(): { "content": token, "special": true } });
        adapter.write(CONFIG, &json!({ "added_tokens_decoder": decoder }));
        compared(&base, &adapter)
    };
    assert_eq!(decoder(FIRST_SPECIAL, "<|one|>"), None);
    let remark = decoder(FIRST_SPECIAL + 2, "<|new|>").expect("another token");
    assert!(remark.contains("`<|new|>`") && !remark.contains("chat template"), "{remark}");
    adapter.write("tokenizer.json", &json!("broken"));
    assert!(compared(&base, &adapter).expect("broken").contains("cannot be read"));
}

/// Settings that tokenizer.json contradicts are not used, and told.
#[test]
fn contradicted_settings_are_told() {
    let told = |bos: Option<&str>, config: serde_json::Value| {
        let tokenizer = byte_level(QWEN, &["<|one|>", "<|two|>"], bos);
        let files = [("tokenizer.json", tokenizer), ("tokenizer_config.json", config)];
        let codec = special(&files).codec(Plain);
        assert_eq!(codec.tokens("a").expect("tokens").len(), 1 + usize::from(bos.is_some()));
        codec.remarks().join("\n")
    };
    let set = |key: &str, value: bool| json!({ "bos_token": "<|one|>", key: value });
    for (bos, key, value, wrong) in [
        (Some("<|one|>"), "add_bos_token", false, Some("does so")),
        (None, "add_bos_token", true, Some("does not")),
        (Some("<|one|>"), "add_bos_token", true, None),
        (None, "add_bos_token", false, None),
        (None, "add_prefix_space", true, Some("does not")),
        (None, "add_prefix_space", false, None),
    ] {
        let remark = told(bos, set(key, value));
        match wrong {
            Some(does) => {
                let told = format!("`{key}` = {value} is not used, because tokenizer.json {does}");
                assert!(remark.contains(&told), "{remark}");
            }
            None => assert_eq!(remark, ""),
        }
    }
    for ends in [json!(-1), json!([FIRST_SPECIAL, "2"]), json!("2")] {
        let model = special(&[("generation_config.json", json!({ "eos_token_id": ends }))]);
        let remark = model.codec(Plain).remarks().join("\n");
        assert!(remark.contains(&format!("`eos_token_id` = {ends} is not an id")), "{remark}");
    }
    let ends = json!([FIRST_SPECIAL, FIRST_SPECIAL + 1]);
    assert!(
        special(&[("config.json", json!({ "eos_token_id": ends }))])
            .codec(Plain)
            .remarks()
            .is_empty()
    );
}
