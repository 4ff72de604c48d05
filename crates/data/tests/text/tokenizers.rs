//! Tokens of texts; the expected tokens are those of Python's `tokenizers`.

use serde_json::json;
use vxf_data::TemplateChoice::{Alpaca, Plain, World};
use vxf_data::{Ask, Codec};

use crate::models::{
    FIRST_SPECIAL, GPT2, LLAMA3, Model, QWEN, byte_level, llama2, llama2_config, llama3, opt, qwen,
    sentence_piece,
};

/// The tokens of a text as texts of the vocabulary.
fn pieces(codec: &Codec, text: &str) -> Vec<String> {
    let ids = codec.tokens(text).expect("any text has tokens");
    ids.iter().filter_map(|id| codec.tokenizer().id_to_token(*id)).collect()
}

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
