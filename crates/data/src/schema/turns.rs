//! Conversations: the last turn of the assistant is the answer, earlier turns are the prompt.

use std::collections::BTreeSet;

use serde_json::Value;
use vxf_untrusted::{Account, is_off};

use crate::files::kind;
use crate::{Ask, Message, Role, Sample};

/// The keys of a turn that may name the speaker.
const SPEAKERS: [&str; 2] = ["role", "from"];

/// The keys of a turn that may hold the text.
const TEXTS: [&str; 2] = ["content", "value"];

/// Keys of a turn that have no effect on training.
const HARMLESS: [&str; 12] = [
    "annotations",
    "audio",
    "avatar",
    "created_at",
    "id",
    "index",
    "language",
    "markdown",
    "refusal",
    "timestamp",
    "turn",
    "uuid",
];

/// Keys of a turn that change what is learned or seen, in ways that are not supported.
const UNSUPPORTED: [&str; 7] = [
    "tool_calls",
    "function_call",
    "tool_call_id",
    "reasoning_content",
    "thinking",
    "images",
    "videos",
];

/// The types of parts that are texts.
const TEXT_PARTS: [&str; 3] = ["text", "input_text", "output_text"];

/// Keys of a part that have no effect on training.
const HARMLESS_OF_PARTS: [&str; 5] = ["annotations", "cache_control", "id", "index", "logprobs"];

/// The turns of a list, which may be written as JSON within a text; the names of unknown keys are
/// added to `unknown`.
pub(super) fn turns(list: &Value, unknown: &mut BTreeSet<String>) -> Result<Vec<Message>, String> {
    let inner;
    let list = match list {
        Value::Array(list) => list,
        Value::String(text) if is_list(text) => {
            inner = serde_json::from_str::<Vec<Value>>(text)
                .map_err(|error| format!("turns are a list; this text is not one: {error}"))?;
            &inner
        }
        other => return Err(format!("the turns are {}, not a list", kind(other))),
    };
    let turns = list.iter().enumerate().map(|(number, turn)| {
        message(turn, unknown).map_err(|problem| format!("turn {}: {problem}", number + 1))
    });
    turns.collect()
}

/// Whether a text looks like a list of objects in JSON.
pub(super) fn is_list(text: &str) -> bool {
    text.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'))
}

fn message(turn: &Value, unknown: &mut BTreeSet<String>) -> Result<Message, String> {
    let none = serde_json::Map::new();
    let turn = turn.as_object().unwrap_or(&none);
    let account = Account::of(turn);
    let part = |keys: [&'static str; 2]| {
        let found = keys.into_iter().find_map(|key| Some((key, account.get(key)?)));
        found.ok_or_else(|| format!("it has no `{}`, nor `{}`", keys[0], keys[1]))
    };
    let (key, speaker) = part(SPEAKERS)?;
    let name = speaker.as_str().map(str::to_lowercase);
    let role = match name.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user" | "human" | "prompter") => Role::User,
        Some("assistant" | "gpt" | "model" | "chatgpt" | "bing" | "bard" | "bot") => {
            Role::Assistant
        }
        Some(
            "tool" | "function" | "function_call" | "function_response" | "observation" | "ipython",
        ) => {
            return Err(format!("`{key}` is {speaker}: turns of tools are not supported"));
        }
        _ => return Err(format!("`{key}` is {speaker}, not system, user or assistant")),
    };
    if let Some(key) =
        UNSUPPORTED.iter().find(|key| !is_off(account.get(key).unwrap_or(&Value::Null)))
    {
        return Err(format!("it has `{key}`, which is not supported"));
    }
    for key in ["weight", "train", "loss"] {
        match account.get(key) {
            None | Some(Value::Null | Value::Bool(true)) => {}
            Some(value) if value.as_f64() == Some(1.0) => {}
            Some(value) => {
                return Err(format!(
                    "it has `{key}` = {value}; weights of turns are not supported"
                ));
            }
        }
    }
    let (_, content) = part(TEXTS)?;
    let content = content_of(content, unknown)?;
    unknown.extend(account.unread(&HARMLESS));
    Ok(Message { role, content })
}

/// The text of a turn, which may be given as a list of parts.
fn content_of(content: &Value, unknown: &mut BTreeSet<String>) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| text_of(part, unknown)).collect(),
        other => Err(format!("its content is {}, not a text", kind(other))),
    }
}

/// The text of a part. A part of another type, such as `thinking`, may have a text too.
fn text_of<'a>(part: &'a Value, unknown: &mut BTreeSet<String>) -> Result<&'a str, String> {
    let no_text = || format!("a part of its content is not a text: {}", excerpt(part));
    let account = Account::of(part.as_object().ok_or_else(no_text)?);
    match account.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if TEXT_PARTS.contains(&kind.as_str()) => {}
        Some(other) => {
            return Err(format!(
                "a part of its content has type {}, not \"text\"; such parts are not supported",
                excerpt(other)
            ));
        }
    }
    let text = account.get("text").and_then(Value::as_str).ok_or_else(no_text)?;
    unknown.extend(account.unread(&HARMLESS_OF_PARTS));
    Ok(text)
}

fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// The sample of a conversation. In a test set, a conversation that ends with the user has no answer.
pub(super) fn sample(mut turns: Vec<Message>, test: bool) -> Result<Sample, String> {
    let last = turns.iter().rposition(|turn| turn.role == Role::Assistant);
    let asks_last = turns.last().is_some_and(|turn| turn.role == Role::User);
    let answer = match last {
        _ if test && asks_last => String::new(),
        Some(last) => {
            turns.truncate(last + 1);
            turns.pop().map(|turn| turn.content).unwrap_or_default()
        }
        None => return Err("there is no answer, as no turn is by the assistant".to_owned()),
    };
    Ok(Sample { ask: ask(turns)?, answer })
}

/// The prompt of some turns; a single turn by the user is an instruction.
pub(super) fn ask(mut turns: Vec<Message>) -> Result<Ask, String> {
    if !turns.iter().any(|turn| turn.role == Role::User) {
        return Err("no turn before the answer is by the user".to_owned());
    }
    match turns.len() {
        1 => Ok(Ask::instruction(turns.remove(0).content)),
        _ => Ok(Ask::Messages(turns)),
    }
}
