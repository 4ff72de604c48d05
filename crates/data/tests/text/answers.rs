//! Training on all answers of a conversation.

use vxf_data::TemplateChoice::Chat;
use vxf_data::{Ask, Codec, Role, Sample};

use crate::chat::{CHATML, LLAMA2, VICUNA, turn, with};
use crate::models::{llama2, qwen};

/// Qwen 3: thoughts of earlier answers are left out, the last answer has a block for them.
const THINKS: &str = "{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' }}\n    {%- if message.role == 'assistant' %}\n        {%- set content = message.content.split('</think>')[-1] %}\n        {%- if loop.last %}\n            {{- '<think>\\n\\n</think>\\n\\n' }}\n        {%- endif %}\n        {{- content }}\n    {%- else %}\n        {{- message.content }}\n    {%- endif %}\n    {{- '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";
/// Only the last question is written with a mark: a prompt changes when the conversation goes on.
const MOVES: &str = "{%- for message in messages %}{{- ('LAST ' if loop.last or loop.index == messages|length - 1 else '') + message.role + ': ' + message.content + eos_token }}{%- endfor %}{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}";

fn sample() -> Sample {
    let ask = Ask::Messages(vec![
        turn(Role::System, "Sing."),
        turn(Role::User, "ab "),
        turn(Role::Assistant, "hello"),
        turn(Role::User, "he"),
    ]);
    Sample { ask, answer: "ll".into() }
}

/// The trained texts of a sample, cut to `most` tokens.
fn trained(codec: &Codec, sample: &Sample, most: usize) -> Vec<String> {
    let encoded = codec.encode_all_answers(sample, most).expect("fits");
    assert!(!encoded.merged);
    let example = encoded.example;
    let text = |range: &std::ops::Range<usize>| {
        codec.tokenizer().decode(&example.tokens[range.clone()], false).expect("text")
    };
    let count: usize = example.trained.iter().map(|range| range.len()).sum();
    assert_eq!(example.labelled(), count);
    example.trained.iter().map(text).collect()
}

#[test]
fn each_answer_is_trained_on() {
    for (model, template, wanted) in [
        // Without marks, an answer goes up to the next turn.
        (llama2(), LLAMA2, ["hello </s>", "ll </s>"]),
        (llama2(), VICUNA, ["hello</s>", "ll</s>"]),
        (qwen(), THINKS, ["hello<|im_end|>\n", "<think>\n\n</think>\n\nll<|im_end|>\n"]),
        // Its marks leave out the line break.
        (qwen(), CHATML, ["hello<|im_end|>", "ll<|im_end|>"]),
    ] {
        let codec = with(model, template).codec(Chat);
        assert_eq!(trained(&codec, &sample(), usize::MAX), wanted);
        // The tokens are those of the last answer alone.
        let last = codec.encode(&sample(), usize::MAX).expect("fits").example;
        let all = codec.encode_all_answers(&sample(), usize::MAX).expect("fits").example;
        assert_eq!((&last.tokens, last.prompt), (&all.tokens, all.prompt));
        // Cut after the first answer.
        let first = all.trained[0].end;
        assert_eq!(trained(&codec, &sample(), first), wanted[..1]);
        let nothing = codec.encode_all_answers(&sample(), all.trained[0].start).expect("fits");
        assert_eq!(nothing.example.labelled(), 0);
    }
}

#[test]
fn a_single_answer_is_as_ever() {
    let codec = with(qwen(), CHATML).codec(Chat);
    let sample = Sample { ask: Ask::instruction("he"), answer: "ll".into() };
    let one = codec.encode_all_answers(&sample, 99).expect("fits");
    assert_eq!(one, codec.encode(&sample, 99).expect("fits"));
    assert!(one.example.trained.is_empty());
}

#[test]
fn a_template_that_moves_its_prompts_is_refused() {
    let codec = with(llama2(), MOVES).codec(Chat);
    let refused = codec.encode_all_answers(&sample(), 99).expect_err("moves").to_string();
    assert!(refused.contains("chat_template.jinja"), "{refused}");
}

/// What follows an answer in the template may occur in the answer.
#[test]
fn an_earlier_answer_of_several_lines_is_trained_on_whole() {
    let lines = "{%- for message in messages %}{{- message.role + ':\\n' + message.content + '\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- 'assistant:\\n' }}{%- endif %}";
    let ask = Ask::Messages(vec![
        turn(Role::User, "ab"),
        turn(Role::Assistant, "hello\nhe\nll"),
        turn(Role::User, "he"),
    ]);
    let sample = Sample { ask, answer: "ll".into() };
    let codec = with(qwen(), lines).codec(Chat);
    assert_eq!(trained(&codec, &sample, usize::MAX), ["hello\nhe\nll\n", "ll\n"]);
}
