//! Chat templates in the style of well-known families, written for these tests.
//!
//! The expected texts are those of `transformers` 5.23 for the same templates and conversations.

use serde_json::{Value, json};
use vxf_data::TemplateChoice::{Auto, Chat};
use vxf_data::{Ask, Codec, Message, Role, Sample};

use crate::models::{FIRST_SPECIAL, Model, llama2, llama2_config, llama3, qwen};

/// Llama 2: the system text is inside the user's first turn; every turn of the user has a start token.
pub(crate) const LLAMA2: &str = "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}{% else %}{% set turns = messages %}{% set system = false %}{% endif %}{% for turn in turns %}{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + turn['content'] %}{% else %}{% set content = turn['content'] %}{% endif %}{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
/// Llama 3: headers, and the date.
const LLAMA3: &str = "{{- bos_token }}\n{%- if strftime_now is defined %}\n    {%- set date = strftime_now('%d %b %Y') %}\n{%- else %}\n    {%- set date = 'never' %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n{{- 'system\\nToday: ' + date + '\\n' + system + '<|eot_id|>' }}\n{%- if tools is not none %}\n    {{- 'tools' }}\n{%- endif %}\n{%- for message in messages %}\n    {{- message['role'] + '\\n' + message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- 'assistant\\n' }}\n{%- endif %}\n";
/// Qwen: ChatML with a default system turn.
pub(crate) const CHATML: &str = "{%- if messages[0].role != 'system' %}\n    {{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' }}\n    {%- if message.role == 'assistant' %}\n        {%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}\n    {%- else %}\n        {{- message.content + '<|im_end|>' }}\n    {%- endif %}\n    {{- '\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";
/// Mistral: no system turn.
const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";
/// Vicuna: roles as plain words, no start token.
pub(crate) const VICUNA: &str = "{%- set ns = namespace(system='A chat.') -%}\n{%- for message in messages -%}\n  {%- if message.role == 'system' -%}\n    {%- set ns.system = message.content -%}\n  {%- endif -%}\n{%- endfor -%}\n{{- ns.system -}}\n{%- for message in messages if message.role != 'system' -%}\n  {{- ' ' + {'user': 'USER', 'assistant': 'ASSISTANT'}[message.role] + ': ' + message.content|trim -}}\n  {%- if message.role == 'assistant' -%}{{- eos_token -}}{%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}{{- ' ASSISTANT:' -}}{%- endif -%}\n";

pub(crate) fn with(model: Model, template: &str) -> Model {
    model.write("chat_template.jinja", &json!(template));
    model
}

pub(crate) fn turn(role: Role, content: &str) -> Message {
    Message { role, content: content.into() }
}

fn long() -> Ask {
    Ask::Messages(vec![
        turn(Role::System, "Sing."),
        turn(Role::User, "ab "),
        turn(Role::Assistant, "hello"),
        turn(Role::User, "he"),
    ])
}

/// The formatted prompt, and the text that follows it with the answer `ll`.
fn texts(codec: &Codec, ask: Ask) -> (String, String) {
    let asked = codec.asked(&ask).expect("a question");
    let encoded = codec.encode(&Sample { ask, answer: "ll".into() }, usize::MAX).expect("fits");
    let (tokens, prompt) = (&encoded.example.tokens, encoded.example.prompt);
    let ids =
        |text: &str| codec.tokenizer().encode(text, false).expect("tokens").get_ids().to_vec();
    assert_eq!(ids(&asked), tokens[..prompt], "the tokenizer adds no special tokens");
    assert!(!encoded.merged && encoded.example.labelled() > 0);
    let answer = codec.tokenizer().decode(&tokens[prompt..], false).expect("text");
    (asked, answer)
}

#[test]
fn templates_give_the_texts_of_transformers() {
    let cases = [
        (
            with(llama2(), LLAMA2),
            "<s>[INST] <<SYS>>\nSing.\n<</SYS>>\n\nab [/INST] hello </s><s>[INST] he [/INST]",
            "ll </s>",
        ),
        (
            with(llama3(), LLAMA3),
            "<|begin_of_text|>system\nToday: 26 Jul 2024\nSing.<|eot_id|>user\nab<|eot_id|>assistant\nhello<|eot_id|>user\nhe<|eot_id|>assistant\n",
            "ll<|eot_id|>",
        ),
        (
            with(qwen(), CHATML),
            "<|im_start|>system\nSing.<|im_end|>\n<|im_start|>user\nab <|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n<|im_start|>user\nhe<|im_end|>\n<|im_start|>assistant\n",
            "ll<|im_end|>\n",
        ),
        (
            with(llama2(), VICUNA),
            "Sing. USER: ab ASSISTANT: hello</s> USER: he ASSISTANT:",
            "ll</s>",
        ),
    ];
    for (model, asked, answer) in cases {
        let codec = model.codec(Auto);
        assert_eq!(codec.template(), "chat");
        assert_eq!(texts(&codec, long()), (asked.to_owned(), answer.to_owned()));
    }
    let codec = with(llama2(), MISTRAL).codec(Chat);
    let asked = "<s>[INST] he\n\nab [/INST]".to_owned();
    let ask = Ask::Instruction { instruction: "he".into(), input: "ab".into() };
    assert_eq!(texts(&codec, ask), (asked, "ll</s>".to_owned()));
    let error = codec.prompt(&long()).expect_err("a system turn").to_string();
    let said = "chat_template.jinja: Only user and assistant roles are supported! (line 1)";
    assert!(error.contains(said), "{error}");
}

#[test]
fn the_end_of_a_turn_ends_an_answer() {
    for (model, end) in [
        (with(llama2(), LLAMA2), 2),
        (with(llama3(), LLAMA3), FIRST_SPECIAL + 2),
        (with(qwen(), CHATML), FIRST_SPECIAL + 2),
    ] {
        model.write("config.json", &json!({}));
        let codec = model.codec(Chat);
        assert!(codec.is_end(end));
        let text = format!("hello{}ab", codec.tokenizer().id_to_token(end).expect("a token"));
        assert_eq!(
            codec.decode(&codec.tokens(&text).expect("tokens")).as_deref().ok(),
            Some("hello")
        );
    }
    // An end token that only the template uses.
    let qwen = with(qwen(), CHATML);
    qwen.write("tokenizer_config.json", &json!({"eos_token": "<|endoftext|>"}));
    let codec = qwen.codec(Chat);
    assert!(codec.is_end(FIRST_SPECIAL) && codec.is_end(FIRST_SPECIAL + 2));
    assert!(!codec.is_end(FIRST_SPECIAL + 1) && codec.opening("hello") == codec.id("hello"));
}

#[test]
fn whole_conversations_have_no_further_prompt() {
    let codec = with(qwen(), CHATML).codec(Chat);
    let turns = [turn(Role::User, "he"), turn(Role::Assistant, "ll")];
    let ids = codec.conversation(&turns).expect("two turns");
    let text = codec.tokenizer().decode(&ids, false).expect("text");
    assert!(text.ends_with("assistant\nll<|im_end|>\n"), "{text}");
}

#[test]
fn templates_are_found_in_all_places() {
    let (model, mut config) = (llama2(), llama2_config());
    let error = model.refused(Chat);
    assert!(
        error.contains("neither chat_template.jinja nor") && error.contains("alpaca"),
        "{error}"
    );
    config["chat_template"] =
        json!([{"name": "tool_use", "template": "x"}, {"name": "rag", "template": "x"}]);
    model.write("tokenizer_config.json", &config);
    let error = model.refused(Chat);
    assert!(error.contains("tool_use, rag, but none named `default`"), "{error}");
    config["chat_template"] =
        json!([{"name": "tool_use", "template": "x"}, {"name": "default", "template": MISTRAL}]);
    model.write("tokenizer_config.json", &config);
    assert_eq!(texts(&model.codec(Auto), Ask::instruction("he")).0, "<s>[INST] he [/INST]");
    config["chat_template"] = json!({ "default": MISTRAL, "rag": "x" });
    model.write("tokenizer_config.json", &config);
    assert_eq!(texts(&model.codec(Auto), Ask::instruction("he")).0, "<s>[INST] he [/INST]");
    config["chat_template"] = json!({ "rag": "x" });
    model.write("tokenizer_config.json", &config);
    assert!(model.refused(Chat).contains("rag, but none named `default`"));
    config["chat_template"] = json!(VICUNA);
    model.write("tokenizer_config.json", &config);
    assert_eq!(texts(&model.codec(Auto), Ask::instruction("he")).0, "A chat. USER: he ASSISTANT:");
    let model = with(model, MISTRAL);
    assert_eq!(texts(&model.codec(Auto), Ask::instruction("he")).0, "<s>[INST] he [/INST]");
    let files = model.codec(Chat);
    assert!(files.files().iter().any(|file| file.ends_with("chat_template.jinja")));
    config["chat_template"] = Value::Null;
    model.write("tokenizer_config.json", &config);
    assert!(model.open(Chat).is_ok());
}

/// Tests of types answer as Python's do.
#[test]
fn templates_walk_what_python_walks() {
    let template = "{% for it in [tools, 'x', {'a': 1}, [1], 3] %}{{ it is iterable }}-{{ it is sequence }} \
                    {% endfor %}{% if add_generation_prompt %}A{% else %}A{{ messages[-1].content }}{% endif %}";
    let codec = with(llama2(), template).codec(Chat);
    let shown = texts(&codec, Ask::instruction("he")).0.to_lowercase();
    assert_eq!(shown, "false-false true-true true-true true-true false-false a");
}

/// Templates can use the names of a model's own tokens, as in transformers.
#[test]
fn templates_know_the_tokens_of_a_model() {
    let template =
        "{{ image_token }}{{ audio_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let model = with(llama2(), template);
    let mut config = llama2_config();
    config["extra_special_tokens"] = json!({ "image_token": "<image>" });
    model.write("tokenizer_config.json", &config);
    let codec = model.codec(Chat);
    assert_eq!(codec.asked(&Ask::instruction("he")).expect("a question"), "<image>he");
    let [remark] = codec.remarks() else { panic!("{:?}", codec.remarks()) };
    assert!(remark.contains("reads `audio_token`, which nothing defines"), "{remark}");
}

#[test]
fn errors_of_templates_are_reported() {
    let refused = |template: &str| {
        let codec = with(llama2(), template).open(Chat);
        let asked = codec.and_then(|codec| {
            codec.encode(&Sample { ask: Ask::instruction("he"), answer: "ll".into() }, 99)
        });
        asked.expect_err(template).to_string()
    };
    for (template, said) in [
        ("{% for", "is invalid: "),
        ("{{ messages.nosuch.thing }}", "undefined"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "loop?"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "more than"),
        ("{% include '/etc/passwd' %}", "is invalid: "),
        (
            "{{ messages[0].content }}{% if add_generation_prompt %}<think>{% else %}{{ messages[-1].content }}{% endif %}",
            "\"<think>\" without and \"ll\" with the answer",
        ),
    ] {
        let error = refused(template);
        assert!(error.contains("chat_template.jinja") && error.contains(said), "{error}");
    }
    let codec = with(llama2(), MISTRAL).codec(Chat);
    assert!(codec.prompt(&Ask::Messages(Vec::new())).is_err());
    let text = Sample { ask: Ask::Nothing, answer: "hello".into() };
    let example = codec.encode(&text, 99).expect("text is text").example;
    assert_eq!((example.tokens[0], example.prompt), (1, 0));
}
