//! Samples in the templates `alpaca` and `plain`.

use vxf_data::TemplateChoice::{Alpaca, Auto, Plain};
use vxf_data::{Ask, Codec, Message, Role, Sample};

use crate::models::{llama2, llama3, opt, qwen};

const ASK: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nhello\n\n### Response:";

fn sample(instruction: &str, answer: &str) -> Sample {
    Sample { ask: Ask::instruction(instruction), answer: answer.to_owned() }
}

/// The reference: the whole with the end as text, truncated on the right, and the prompt's length.
fn reference(codec: &Codec, ask: &str, answer: &str, most: usize) -> (Vec<u32>, usize) {
    let text = format!("{ask}{answer}{}", codec.eos().expect("an end"));
    let whole = codec.tokenizer().encode(text, true).expect("tokens");
    let prompt = codec.tokenizer().encode(ask, true).expect("tokens");
    let mut ids = whole.get_ids().to_vec();
    ids.truncate(most);
    (ids, prompt.len().min(most))
}

#[test]
fn alpaca_has_the_tokens_of_the_reference() {
    for model in [llama2(), llama3(), qwen(), opt()] {
        let codec = model.codec(Alpaca);
        let sample = sample("hello", "ab hello");
        assert_eq!(codec.asked(&sample.ask).as_deref().ok(), Some(ASK));
        let long = codec.encode(&sample, usize::MAX).expect("fits");
        assert!(!long.truncated && !long.merged && long.example.labelled() > 1);
        for most in [usize::MAX, long.example.tokens.len(), long.example.prompt + 1, 9] {
            let encoded = codec.encode(&sample, most).expect("fits");
            let wanted = reference(&codec, ASK, "ab hello", most);
            assert_eq!((encoded.example.tokens.clone(), encoded.example.prompt), wanted);
            assert_eq!(encoded.truncated, most < long.example.tokens.len());
            assert_eq!(encoded.example.labelled() == 0, most == 9);
        }
        assert_eq!(
            codec.prompt(&sample.ask).ok(),
            Some(reference(&codec, ASK, "", 999).0[..long.example.prompt].to_vec())
        );
        let answer = &long.example.tokens[long.example.prompt..];
        assert!(codec.is_end(answer[answer.len() - 1]));
        assert_eq!(codec.decode(answer).as_deref().ok(), Some("ab hello"));
    }
}

#[test]
fn answers_are_decoded_up_to_their_end() {
    let codec = qwen().codec(Alpaca);
    let read = |text: &str| codec.decode(&codec.tokens(text).expect("tokens")).expect("text");
    assert_eq!(read(" hello \n<|im_end|>ab"), "hello");
    assert_eq!(read("hello<|im_start|>ab"), "helloab");
    assert_eq!(read("hello\n\n### Response:ab"), "hello");
    assert_eq!(read("### Response:"), "");
    // Half a character is not an error.
    assert_eq!(
        codec.decode(&codec.tokens("é").expect("tokens")[..1]).as_deref().ok(),
        Some("\u{fffd}")
    );
    let plain = qwen().codec(Plain);
    let ids = plain.tokens("hello### Response:ab").expect("tokens");
    assert_eq!(plain.decode(&ids).as_deref().ok(), Some("hello### Response:ab"));
    assert_eq!(plain.decode(&[u32::MAX]).as_deref().ok(), Some(""));
}

#[test]
fn plain_puts_nothing_in_between() {
    let codec = llama2().codec(Plain);
    let encoded = codec.encode(&sample("hello ", "ab"), 99).expect("fits");
    assert_eq!(
        (encoded.example.tokens, encoded.example.prompt),
        reference(&codec, "hello ", "ab", 99)
    );
    let both = Ask::Instruction { instruction: "hello".into(), input: "ab".into() };
    assert_eq!(codec.asked(&both).as_deref().ok(), Some("hello\n\nab"));
    let text = Sample { ask: Ask::Nothing, answer: "hello".into() };
    let example = codec.encode(&text, 99).expect("fits").example;
    assert_eq!((example.prompt, example.labelled()), (0, 2));
    assert_eq!(codec.decode(&example.tokens).as_deref().ok(), Some("hello"));
}

#[test]
fn tokens_across_the_border_are_reported() {
    let codec = qwen().codec(Plain);
    let encoded = codec.encode(&sample("a", "b"), 99).expect("fits");
    assert!(encoded.merged);
    assert_eq!((encoded.example.prompt, encoded.example.tokens.len()), (1, 2));
    assert_eq!(encoded.example.tokens[0], codec.id("ab").expect("merged"));
    assert!(!codec.encode(&sample("a", " b"), 99).expect("fits").merged);
}

#[test]
fn openings_are_the_first_tokens_after_the_prompt() {
    for model in [llama2(), llama3(), qwen(), opt()] {
        let codec = model.codec(Alpaca);
        assert_eq!(codec.opening("hello"), codec.id("hello"), "no space before an answer");
        assert_eq!(
            codec.opening(""),
            codec.encode(&sample("?", ""), 999).ok().and_then(|encoded| encoded
                .example
                .tokens
                .last()
                .copied())
        );
    }
    // The line break merges with the text before it, so it has no token of its own.
    assert_eq!(qwen().codec(Alpaca).opening("\n"), None);
}

#[test]
fn conversations_need_a_chat_template() {
    let turn = |role, content: &str| Message { role, content: content.into() };
    let codec = llama2().codec(Auto);
    assert_eq!(codec.template(), "alpaca");
    let turns =
        vec![turn(Role::User, "hello"), turn(Role::Assistant, "ab"), turn(Role::User, "he")];
    let error = codec.prompt(&Ask::Messages(turns.clone())).expect_err("three turns").to_string();
    assert!(error.contains("`alpaca`") && error.contains("use `chat`"), "{error}");
    assert!(codec.conversation(&turns).is_err());
    let one = codec.prompt(&Ask::Messages(turns[..1].to_vec())).ok();
    assert_eq!(one, codec.prompt(&Ask::instruction("hello")).ok());
    assert!(codec.prompt(&Ask::Nothing).is_err());
}
