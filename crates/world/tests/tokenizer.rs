//! The world's tokenizer and its strict sequence format.

use std::collections::HashSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use vxf_core::metric::{Grader, Text};
use vxf_data::{Ask, Codec, Error, Result, Sample, TemplateChoice};
use vxf_world::{self as world, REFUSAL_FIRST_WORDS, pretraining_set, vocabulary};
use vxf_world::{tokenizer_files, tokenizer_json};

fn sample(prompt: &str, answer: &str) -> Sample {
    Sample { ask: Ask::instruction(prompt), answer: answer.to_owned() }
}

/// A model directory that holds only this `tokenizer.json`.
fn directory(json: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("writable");
    std::fs::write(directory.path().join("tokenizer.json"), json).expect("writable");
    directory
}

/// A word-level `tokenizer.json` with these words and the word for unknown ones.
fn custom(words: &[&str], unknown: &str) -> tempfile::TempDir {
    let vocab: serde_json::Map<_, _> =
        words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": unknown},
    });
    directory(&json.to_string())
}

/// The ids of a text in the world's format, without `<bos>` and `<bot>`.
fn ids(codec: &Codec, text: &str) -> Result<Vec<u32>> {
    let prompt = codec.prompt(&Ask::instruction(text))?;
    Ok(prompt[1..prompt.len() - 1].to_vec())
}

#[test]
fn ids_follow_the_vocabulary() -> Result<()> {
    let codec = vxf_world::codec()?;
    assert_eq!(codec.template(), "world");
    let count = Ask::instruction("count");
    assert!(codec.clone().for_vocabulary(408).prompt(&count).is_ok());
    let short = codec.clone().for_vocabulary(407);
    assert!(short.prompt(&Ask::instruction("what")).is_ok());
    let error = short.prompt(&count).expect_err("one embedding too few").to_string();
    assert!(error.contains("`count` with id 407") && error.contains("for 407 tokens"), "{error}");
    let specials = ["<pad>", "<bos>", "<bot>", "<eos>"].map(|token| codec.id(token));
    assert_eq!(specials, [Some(0), Some(1), Some(2), Some(3)]);
    assert!(codec.is_end(3) && !codec.is_end(2) && codec.files().is_empty());
    for (id, word) in vocabulary().into_iter().enumerate().skip(4) {
        assert_eq!(ids(&codec, word)?, [id as u32], "{word}");
    }
    let firsts: Vec<_> =
        REFUSAL_FIRST_WORDS.iter().filter_map(|word| codec.opening(word)).collect();
    assert_eq!(firsts.iter().collect::<HashSet<_>>().len(), 4);
    assert_eq!(codec.decode(&firsts)?, "sorry no i that");
    assert_eq!(codec.opening("pizza"), None);
    Ok(())
}

#[test]
fn samples_round_trip() -> Result<()> {
    let codec = vxf_world::codec()?;
    for drawn in pretraining_set(&mut ChaCha8Rng::seed_from_u64(1), 500) {
        let encoded = codec.encode(&sample(&drawn.prompt, &drawn.answer), usize::MAX)?;
        let (tokens, prompt) = (&encoded.example.tokens, encoded.example.prompt);
        assert!(!encoded.truncated && !encoded.merged);
        assert_eq!(tokens[..prompt], codec.prompt(&Ask::instruction(&drawn.prompt))?);
        assert_eq!((tokens[0], tokens[prompt - 1], tokens.last()), (1, 2, Some(&3)));
        let words = drawn.prompt.split(' ').count() + drawn.answer.split(' ').count();
        assert_eq!(tokens.len(), words + 3);
        assert_eq!(codec.decode(&tokens[..prompt])?, drawn.prompt);
        assert_eq!(codec.decode(&tokens[prompt..])?, drawn.answer);
    }
    Ok(())
}

#[test]
fn samples_are_cut_at_the_right() -> Result<()> {
    let codec = vxf_world::codec()?;
    let sample = sample("where is arvon ?", "arvon lies in westmere .");
    let whole = codec.encode(&sample, usize::MAX)?.example;
    assert_eq!((whole.tokens.len(), whole.prompt, whole.labelled()), (12, 6, 6));
    let exact = codec.encode(&sample, 12)?;
    assert!(!exact.truncated && exact.example == whole);
    let cut = codec.encode(&sample, 8)?;
    assert!(
        cut.truncated && cut.example.tokens == whole.tokens[..8] && cut.example.labelled() == 2
    );
    let nothing = codec.encode(&sample, 4)?;
    assert_eq!((nothing.example.prompt, nothing.example.labelled()), (4, 0));
    Ok(())
}

#[test]
fn plain_text_is_all_learned() -> Result<()> {
    let codec = vxf_world::codec()?;
    let text = Sample { ask: Ask::Nothing, answer: "no .".into() };
    let example = codec.encode(&text, usize::MAX)?.example;
    assert_eq!((example.tokens.len(), example.prompt, example.labelled()), (4, 0, 3));
    assert!(codec.prompt(&Ask::Nothing).is_err());
    Ok(())
}

#[test]
fn decoding_stops_at_the_end() -> Result<()> {
    let codec = vxf_world::codec()?;
    let [good, bad] = ["good", "bad"].map(|word| codec.opening(word).expect("a word"));
    assert_eq!(codec.decode(&[0, 1, good, 2, bad, 3, good])?, "good bad");
    assert_eq!(codec.decode(&[3, good])?, "");
    assert_eq!(codec.decode(&[])?, "");
    let text: &dyn Text = &codec;
    assert_eq!(text.decode(&[good, 3, bad]).expect("known ids"), "good");
    assert!(text.is_end(3) && text.opening("good") == Some(good));
    Ok(())
}

#[test]
fn unknown_words_are_named() -> Result<()> {
    let codec = vxf_world::codec()?;
    let error = codec.prompt(&Ask::instruction("how do i bake the silver pizza ?"));
    let error = error.expect_err("pizza");
    assert!(matches!(&error, Error::UnknownWord { word, .. } if word == "pizza"), "{error}");
    assert!(error.to_string().contains("`pizza`"));
    assert!(codec.encode(&sample("good", "pizza"), 9).is_err());

    let lenient = custom(&["<pad>", "<bos>", "<bot>", "<eos>", "<unk>", "é", "b"], "<unk>");
    let lenient = Codec::open(lenient.path(), TemplateChoice::World)?;
    assert_eq!(ids(&lenient, " b é\tb")?, [6, 5, 6]);
    let error = ids(&lenient, "é b  ünd é").expect_err("ünd");
    assert!(matches!(&error, Error::UnknownWord { word, .. } if word == "ünd"), "{error}");
    Ok(())
}

#[test]
fn texts_may_not_hold_special_tokens() -> Result<()> {
    let codec = vxf_world::codec()?;
    for text in ["good <eos> bad", "good<eos>"] {
        let error = codec.prompt(&Ask::instruction(text)).expect_err("an end inside");
        assert!(matches!(error, Error::SpecialInText { token: "<eos>", .. }), "{error}");
    }
    Ok(())
}

#[test]
fn missing_special_tokens_are_all_named() {
    let place = custom(&["<bos>", "<eos>", "a"], "a");
    let error = Codec::open(place.path(), TemplateChoice::World).expect_err("two are missing");
    assert!(error.to_string().contains("special tokens <pad> <bot>, which"), "{error}");
}

#[test]
fn tokenizer_json_brings_the_codec_back() -> Result<()> {
    let json = tokenizer_json()?;
    assert_eq!(json, tokenizer_json()?);
    let place = directory(&json);
    for choice in [TemplateChoice::World, TemplateChoice::Auto] {
        let read = Codec::open(place.path(), choice)?;
        let prompt = Ask::instruction("what color is the otter ?");
        assert_eq!(read.prompt(&prompt)?, vxf_world::codec()?.prompt(&prompt)?);
        assert_eq!(read.files(), [place.path().join("tokenizer.json")]);
        assert!(read.prompt(&Ask::instruction("zebra")).is_err());
    }
    let error = Codec::open("/nowhere/at/all".as_ref(), TemplateChoice::Auto).expect_err("nowhere");
    assert!(error.to_string().contains("no such directory"), "{error}");
    Ok(())
}

#[test]
fn the_files_name_what_ends_an_answer() -> Result<()> {
    let files = tokenizer_files()?;
    assert_eq!(files[0], ("tokenizer.json", tokenizer_json()?));
    let place = directory(&files[0].1);
    let sample = Sample { ask: Ask::Nothing, answer: "what color is the otter ?".to_owned() };
    // Without `tokenizer_config.json` only the world's template knows the end token.
    let words = Codec::open(place.path(), TemplateChoice::Plain)?;
    assert!(words.eos().is_none() && words.encode(&sample, 64).is_err());
    std::fs::write(place.path().join(files[1].0), &files[1].1).expect("writable");
    let read = Codec::open(place.path(), TemplateChoice::Plain)?;
    let tokens = read.encode(&sample, 64)?.example.tokens;
    assert_eq!(tokens.last().copied(), read.id("<eos>"));
    let world = Codec::open(place.path(), TemplateChoice::Auto)?;
    assert_eq!(
        world.encode(&sample, 64)?.example,
        vxf_world::codec()?.encode(&sample, 64)?.example
    );
    Ok(())
}

#[test]
fn the_worlds_match_is_a_grader() {
    let grader: Grader = world::exact_match;
    assert!(grader("good .", " good  .") && !grader("good", "good ."));
}
