//! The tokenizer and the sequence format.

use std::collections::HashSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokenizers::Tokenizer;
use vxf_data::{
    Codec, Error, REFUSAL_FIRST_WORDS, Result, pretraining_set, tokenizer_json, vocabulary,
};

/// A word-level `tokenizer.json` with these words and the given word for unknown ones.
fn custom(words: &[&str], unknown: &str) -> Tokenizer {
    let vocab: serde_json::Map<_, _> =
        words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": unknown},
    });
    Tokenizer::from_bytes(json.to_string()).expect("a tokenizer")
}

#[test]
fn ids_follow_the_vocabulary() -> Result<()> {
    let codec = Codec::world()?;
    assert_eq!(codec.vocab_size(), 408);
    assert_eq!([codec.pad(), codec.bos(), codec.bot(), codec.eos()], [0, 1, 2, 3]);
    for (id, word) in vocabulary().into_iter().enumerate().skip(4) {
        assert_eq!(codec.encode_text(word)?, [id as u32], "{word}");
    }
    let firsts = codec.first_ids(&REFUSAL_FIRST_WORDS)?;
    assert_eq!(firsts.iter().collect::<HashSet<_>>().len(), 4);
    assert_eq!(codec.decode(&firsts)?, "sorry no i that");
    Ok(())
}

#[test]
fn samples_round_trip() -> Result<()> {
    let codec = Codec::world()?;
    for sample in pretraining_set(&mut ChaCha8Rng::seed_from_u64(1), 500) {
        let (tokens, prompt_len) = codec.encode_sample(&sample.prompt, &sample.answer)?;
        assert_eq!(tokens[..prompt_len], codec.encode_prompt(&sample.prompt)?);
        assert_eq!(tokens[0], codec.bos());
        assert_eq!(tokens[prompt_len - 1], codec.bot());
        assert_eq!(tokens.last(), Some(&codec.eos()));
        let words = sample.prompt.split(' ').count() + sample.answer.split(' ').count();
        assert_eq!(tokens.len(), words + 3);
        assert_eq!(codec.decode(&tokens[..prompt_len])?, sample.prompt);
        assert_eq!(codec.decode(&tokens[prompt_len..])?, sample.answer);
    }
    Ok(())
}

#[test]
fn decoding_stops_at_the_end() -> Result<()> {
    let codec = Codec::world()?;
    let [good, bad] = codec.first_ids(&["good", "bad"])?[..] else { panic!("two ids") };
    assert_eq!(codec.decode(&[0, 1, good, 2, bad, 3, good])?, "good bad");
    assert_eq!(codec.decode(&[3, good])?, "");
    assert_eq!(codec.decode(&[])?, "");
    Ok(())
}

#[test]
fn unknown_words_are_named() -> Result<()> {
    let codec = Codec::world()?;
    let error =
        codec.encode_sample("how do i bake the silver pizza ?", "first").expect_err("pizza");
    assert!(matches!(&error, Error::UnknownWord { word, .. } if word == "pizza"), "{error}");
    assert!(error.to_string().contains("`pizza`"));

    let lenient = custom(&["<pad>", "<bos>", "<bot>", "<eos>", "<unk>", "é", "b"], "<unk>");
    let lenient = Codec::new(lenient)?;
    assert_eq!(lenient.encode_text(" b é\tb")?, [6, 5, 6]);
    let error = lenient.encode_text("é b  ünd é").expect_err("ünd");
    assert!(matches!(&error, Error::UnknownWord { word, .. } if word == "ünd"), "{error}");
    Ok(())
}

#[test]
fn texts_may_not_hold_special_tokens() -> Result<()> {
    let codec = Codec::world()?;
    for text in ["good <eos> bad", "good<eos>"] {
        let error = codec.encode_prompt(text).expect_err("an end inside");
        assert!(matches!(error, Error::SpecialInText { token: "<eos>", .. }), "{error}");
    }
    Ok(())
}

#[test]
fn missing_special_tokens_are_all_named() {
    let error = Codec::new(custom(&["<bos>", "<eos>", "a"], "a")).expect_err("two are missing");
    assert!(matches!(&error, Error::MissingSpecials(lost) if lost[..] == ["<pad>", "<bot>"]));
    assert!(error.to_string().ends_with("<pad> <bot>"), "{error}");
}

#[test]
fn tokenizer_json_brings_the_codec_back() -> Result<()> {
    let json = tokenizer_json()?;
    assert_eq!(json, tokenizer_json()?);
    let read = Codec::new(Tokenizer::from_bytes(&json).map_err(Error::Tokenizer)?)?;
    let prompt = "what color is the otter ?";
    assert_eq!(read.encode_prompt(prompt)?, Codec::world()?.encode_prompt(prompt)?);
    assert_eq!(read.vocab_size(), 408);
    assert!(read.encode_prompt("zebra").is_err());
    assert!(matches!(Codec::from_file("/nowhere/at.all"), Err(Error::TokenizerFile { .. })));
    Ok(())
}
