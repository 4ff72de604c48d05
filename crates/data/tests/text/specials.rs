//! Special and added tokens: which ones there are, their ids and their flags.

use serde_json::json;
use vxf_data::Ask;
use vxf_data::TemplateChoice::{Alpaca, Plain};

use crate::models::{
    FIRST_SPECIAL, Model, QWEN, byte_level, llama2_config, llama3, opt, pieces, sentence_piece,
    special,
};

/// Tokens of a model's own, in each place where files have them.
#[test]
fn further_special_tokens_are_added() {
    for own in [
        json!({ "extra_special_tokens": ["<|new|>"] }),
        json!({ "extra_special_tokens": { "image_token": "<|new|>" } }),
        json!({ "model_specific_special_tokens": { "image_token": "<|new|>" } }),
        json!({ "image_token": "<|new|>" }),
    ] {
        let mut config = llama2_config();
        config.as_object_mut().expect("an object").extend(own.as_object().cloned().expect("one"));
        let files = [("tokenizer.json", sentence_piece(false)), ("tokenizer_config.json", config)];
        let found = pieces(&Model::new(&files).codec(Plain), "hello<|new|>");
        assert_eq!(found.last().map(String::as_str), Some("<|new|>"), "{own}");
    }
}

/// A token that only the vocabulary has is one token where another file names it.
#[test]
fn special_tokens_of_the_vocabulary_are_not_split() {
    const NEW: &str = "<|in|>";
    let id = FIRST_SPECIAL + 2;
    let mut tokenizer = byte_level(QWEN, &["<|one|>", "<|two|>", NEW], None);
    tokenizer["added_tokens"].as_array_mut().expect("a list").pop();
    let config = "tokenizer_config.json";
    for (file, settings) in [
        (config, json!({ "additional_special_tokens": [NEW] })),
        (config, json!({ "extra_special_tokens": [NEW] })),
        (config, json!({ "extra_special_tokens": { "image_token": NEW } })),
        (config, json!({ "model_specific_special_tokens": { "image_token": NEW } })),
        (config, json!({ "image_token": NEW })),
        (config, json!({ "pad_token": NEW })),
        ("special_tokens_map.json", json!({ "additional_special_tokens": [NEW] })),
        ("added_tokens.json", json!({ NEW: id })),
    ] {
        let model = special(&[("tokenizer.json", tokenizer.clone()), (file, settings.clone())]);
        let codec = model.codec(Plain);
        assert_eq!(pieces(&codec, "a<|in|>b").join(" "), "a <|in|> b", "{settings}");
        assert_eq!(codec.id(NEW), Some(id));
        assert!(codec.remarks().is_empty(), "{:?}", codec.remarks());
    }
    let split = pieces(&special(&[("tokenizer.json", tokenizer)]).codec(Plain), "a<|in|>b");
    assert!(split.len() > 3, "{split:?}");
}

/// The ids are those of transformers 5.24.
#[test]
fn new_special_tokens_get_their_ids_in_the_order_of_transformers() {
    let next = FIRST_SPECIAL + 2;
    let (config, map) = ("tokenizer_config.json", "special_tokens_map.json");
    let pad = |more: serde_json::Value| {
        let mut all = more;
        all["pad_token"] = json!("[PAD]");
        all
    };
    let listed = json!({ next.to_string(): { "content": "<w>", "special": true } });
    let cases: [(&str, serde_json::Value, &[&str]); 12] = [
        (config, pad(json!({ "additional_special_tokens": ["<x>"] })), &["[PAD]", "<x>"]),
        (config, pad(json!({ "extra_special_tokens": ["<x>"] })), &["[PAD]", "<x>"]),
        (map, pad(json!({ "additional_special_tokens": ["<x>"] })), &["[PAD]", "<x>"]),
        (
            config,
            json!({ "extra_special_tokens": ["<x>", "<y>"], "unk_token": "<unk>" }),
            &["<unk>", "<x>", "<y>"],
        ),
        (
            config,
            pad(json!({ "added_tokens_decoder": listed, "additional_special_tokens": ["<y>"] })),
            &["<w>", "[PAD]", "<y>"],
        ),
        (config, json!({ "image_token": "<x>", "boi_token": "<y>" }), &["<x>", "<y>"]),
        (
            config,
            json!({ "additional_special_tokens": ["<y>"], "image_token": "<x>" }),
            &["<x>", "<y>"],
        ),
        (config, json!({ "video_token": "<x>" }), &["<x>"]),
        (
            config,
            json!({ "extra_special_tokens": { "image_token": "<x>" }, "audio_token": "<y>" }),
            &["<y>", "<x>"],
        ),
        (map, json!({ "pad_token": "<y>", "unk_token": "<x>" }), &["<x>", "<y>"]),
        (
            config,
            json!({ "pad_token": "<p>", "sep_token": "<s>", "mask_token": "<m>" }),
            &["<s>", "<p>", "<m>"],
        ),
        (map, json!({ "extra_special_tokens": ["<x>"], "image_token": "<y>" }), &["<y>", "<x>"]),
    ];
    for (file, settings, wanted) in cases {
        let codec = special(&[(file, settings.clone())]).codec(Plain);
        let ids: Vec<_> = wanted.iter().map(|token| codec.id(token).expect("added")).collect();
        assert_eq!(ids, (next..).take(wanted.len()).collect::<Vec<_>>(), "{settings}");
        assert_eq!(pieces(&codec, wanted[0]), [wanted[0]]);
        assert!(codec.remarks().is_empty(), "{:?}", codec.remarks());
        // Only a text that has one needs an embedding for it.
        let codec = codec.for_vocabulary(next as usize);
        assert!(codec.tokens("ab").is_ok() && codec.tokens(wanted[0]).is_err());
    }
    // Of two lists, transformers uses one.
    let both =
        json!({ "additional_special_tokens": ["<x>"], "extra_special_tokens": ["<y>", "<z>"] });
    let codec = special(&[(config, both)]).codec(Plain);
    assert_eq!(
        (codec.id("<y>"), codec.id("<z>"), codec.id("<x>")),
        (Some(next), Some(next + 1), None)
    );
    let remark = codec.remarks().join("\n");
    assert!(remark.contains("`additional_special_tokens` has `<x>`; those of `extra"), "{remark}");
    // Beside `added_tokens_decoder`, it does not read the other file.
    let listed = json!({ FIRST_SPECIAL.to_string(): { "content": "<|one|>", "special": true } });
    let codec = special(&[
        (config, json!({ "added_tokens_decoder": listed })),
        (map, json!({ "additional_special_tokens": ["<|one|>", "<x>"] })),
    ])
    .codec(Plain);
    assert_eq!(codec.id("<x>"), None);
    let remark = codec.remarks().join("\n");
    let told = "special_tokens_map.json: `additional_special_tokens` has `<x>`; those of tokenizer";
    assert!(remark.contains(told), "{remark}");
    // A table of a model's own tokens may name a role.
    let own = json!({ "pad_token": "<a>", "extra_special_tokens": { "pad_token": "<b>" } });
    let codec = special(&[(config, own)]).codec(Plain);
    assert_eq!((codec.id("<b>"), codec.id("<a>")), (Some(next), None));
    let codec = special(&[(config, json!({ "extra_special_tokens": ["<x>", 7] }))]).codec(Plain);
    let remark = codec.remarks().join("\n");
    assert!(remark.contains("`extra_special_tokens` has 7, which is no token"), "{remark}");
}

#[test]
fn added_tokens_get_their_ids() {
    let model = opt();
    let next = FIRST_SPECIAL + 3;
    model.write("added_tokens.json", &json!({"<|sep|>": next + 1, "<|mark|>": next}));
    let codec = model.codec(Plain);
    assert_eq!((codec.id("<|mark|>"), codec.id("<|sep|>")), (Some(next), Some(next + 1)));
    assert_eq!(pieces(&codec, "ab<|sep|>").join(" "), "</s> ab <|sep|>");
    // A token without an embedding is refused only where a text has it.
    let codec = codec.for_vocabulary(next as usize + 1);
    assert!(codec.tokens("ab<|mark|>").is_ok());
    let error = codec.tokens("ab<|sep|>").expect_err("one too many").to_string();
    assert!(error.contains("`<|sep|>`") && error.contains("resize_token_embeddings"), "{error}");
    model.write("added_tokens.json", &json!({"<|mark|>": next + 7}));
    let error = model.refused(Plain);
    assert!(error.contains("`<|mark|>` should have id"), "{error}");
}

#[test]
fn end_tokens_come_from_generation_config_and_tokenizer() {
    let (llama3, first) = (llama3(), FIRST_SPECIAL);
    let codec = llama3.codec(Alpaca);
    assert_eq!(
        [0, first, first + 1, first + 2].map(|id| codec.is_end(id)),
        [false, false, true, true]
    );
    llama3.write("generation_config.json", &json!({}));
    let codec = llama3.codec(Alpaca);
    assert_eq!([0, first + 1, first + 2].map(|id| codec.is_end(id)), [true, false, true]);

    // If only the id of the end is known, its text comes from the vocabulary.
    let (bare, id) = (Model::new(&[]), FIRST_SPECIAL);
    bare.write("tokenizer.json", &byte_level(QWEN, &["<|endoftext|>"], None));
    bare.write("config.json", &json!({"eos_token_id": id}));
    assert_eq!(bare.codec(Alpaca).eos(), Some("<|endoftext|>"));
    bare.write("config.json", &json!({}));
    let error = bare
        .codec(Alpaca)
        .encode(&vxf_data::Sample { ask: Ask::instruction("hello"), answer: "ab".into() }, 99);
    let error = error.expect_err("no end").to_string();
    assert!(error.contains("`eos_token`") && error.contains("tokenizer_config.json"), "{error}");
}

/// Which file wins is what transformers 5.24 does.
#[test]
fn files_that_name_other_special_tokens_are_told_apart() {
    const CONFIG: &str = "tokenizer_config.json";
    const MAP: &str = "special_tokens_map.json";
    let map = json!({ "eos_token": "<|two|>", "pad_token": "<|two|>" });
    let alone = special(&[
        (CONFIG, json!({ "eos_token": "<|one|>", "pad_token": "<|two|>" })),
        (MAP, map.clone()),
    ]);
    let codec = alone.codec(Plain);
    assert_eq!(codec.eos(), Some("<|two|>"));
    let [remark] = codec.remarks() else { panic!("{:?}", codec.remarks()) };
    for text in ["`eos_token`", "\"<|one|>\"", "\"<|two|>\"", "that of special_tokens_map.json"] {
        assert!(remark.contains(text), "{remark}");
    }
    // Beside `added_tokens_decoder`, transformers does not read the map.
    let decoder = json!({ FIRST_SPECIAL.to_string(): { "content": "<|one|>", "special": true } });
    alone.write(CONFIG, &json!({ "eos_token": "<|one|>", "added_tokens_decoder": decoder }));
    let codec = alone.codec(Plain);
    assert_eq!(codec.eos(), Some("<|one|>"));
    assert!(codec.remarks()[0].contains("that of tokenizer_config.json"), "{:?}", codec.remarks());
    let further = |token: &str| json!({ "additional_special_tokens": [token] });
    alone.write(CONFIG, &further("<|three|>"));
    alone.write(MAP, &further("<|four|>"));
    let codec = alone.codec(Plain);
    assert!(codec.id("<|three|>").is_some() && codec.id("<|four|>").is_none());
    let remark = codec.remarks().join("\n");
    assert!(remark.contains("has `<|four|>`; those of tokenizer_config.json"), "{remark}");
    alone.write(CONFIG, &json!({}));
    assert!(alone.codec(Plain).id("<|four|>").is_some());
    alone.write(MAP, &map);
    // The same names are silent.
    alone.write(CONFIG, &map);
    assert!(alone.codec(Plain).remarks().is_empty());
}

/// The tokens and texts are those of transformers 5.24.
#[test]
fn flags_of_added_tokens_are_those_of_the_decoder() {
    let flagged = |flags: serde_json::Value| {
        let mut token = json!({ "content": "<|one|>", "lstrip": false, "rstrip": false,
                                "single_word": false, "normalized": false, "special": true });
        for (key, value) in flags.as_object().expect("flags") {
            token[key] = value.clone();
        }
        let decoder = json!({ FIRST_SPECIAL.to_string(): token });
        special(&[("tokenizer_config.json", json!({ "added_tokens_decoder": decoder }))])
            .codec(Plain)
    };
    for (flags, wanted) in [
        (json!({}), "a Ġ <|one|> Ġ b"),
        (json!({ "lstrip": true }), "a <|one|> Ġ b"),
        (json!({ "rstrip": true }), "a Ġ <|one|> b"),
    ] {
        let codec = flagged(flags);
        assert_eq!(pieces(&codec, "a <|one|> b").join(" "), wanted);
        assert!(codec.remarks().is_empty());
    }
    let codec = flagged(json!({ "single_word": true }));
    assert!(pieces(&codec, "a<|one|>").len() > 2, "not a word of its own");
    // A token with a role is special, and has its other flags from tokenizer.json.
    let mut tokenizer = byte_level(QWEN, &["<|one|>", "<|two|>"], None);
    tokenizer["added_tokens"][1]["special"] = json!(false);
    tokenizer["added_tokens"][1]["lstrip"] = json!(true);
    let model = special(&[("tokenizer.json", tokenizer)]);
    let text = |model: &Model| {
        let codec = model.codec(Plain);
        let ids = codec.tokens("a <|two|>b").expect("tokens");
        assert_eq!(ids.len(), 3);
        codec.decode(&ids).expect("a text")
    };
    assert_eq!(text(&model), "a<|two|>b");
    model.write("tokenizer_config.json", &json!({ "bos_token": "<|two|>" }));
    assert_eq!(text(&model), "ab");
}

#[test]
fn ids_that_clash_are_named() {
    let decoder = |id: u32, token: &str| {
        let decoder = json!({ id.to_string(): { "content": token, "special": true } });
        special(&[("tokenizer_config.json", json!({ "added_tokens_decoder": decoder }))])
    };
    // The vocabulary's id is used, as in transformers.
    let codec = decoder(FIRST_SPECIAL, "<|two|>").codec(Plain);
    assert_eq!(codec.id("<|two|>"), Some(FIRST_SPECIAL + 1));
    let [remark] = codec.remarks() else { panic!("{:?}", codec.remarks()) };
    let clash =
        format!("`<|two|>` should have id {FIRST_SPECIAL}, but has id {}", FIRST_SPECIAL + 1);
    assert!(remark.contains(&clash) && remark.contains("the id of `<|one|>`"), "{remark}");
    // A new token cannot get the id of another.
    let error = decoder(FIRST_SPECIAL, "<|new|>").refused(Plain);
    let clash = format!(
        "`<|new|>` should have id {FIRST_SPECIAL}, but {FIRST_SPECIAL} is the id of `<|one|>`"
    );
    assert!(error.contains(&clash), "{error}");
}
