//! Conversations: the last turn of the assistant is the answer, earlier turns are the prompt.

use serde_json::Value;

use crate::files::kind;
use crate::{Ask, Message, Role, Sample};

/// The keys of a turn.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) role: &'static str,
    pub(super) content: &'static str,
}

/// The keys of `messages`.
pub(super) const MESSAGES: Keys = Keys { role: "role", content: "content" };

/// The keys of `conversations`.
pub(super) const SHAREGPT: Keys = Keys { role: "from", content: "value" };

/// The turns of a list.
pub(super) fn turns(list: &Value, keys: Keys) -> Result<Vec<Message>, String> {
    let Value::Array(list) = list else {
        return Err(format!("the turns are {}, not a list", kind(list)));
    };
    let turns = list.iter().enumerate().map(|(number, turn)| {
        message(turn, keys).map_err(|problem| format!("turn {}: {problem}", number + 1))
    });
    turns.collect()
}

fn message(turn: &Value, keys: Keys) -> Result<Message, String> {
    let part = |key| turn.get(key).ok_or_else(|| format!("it has no `{key}`"));
    let (role, content) = (part(keys.role)?, part(keys.content)?);
    let role = match role.as_str() {
        Some("system" | "developer") => Role::System,
        Some("user" | "human") => Role::User,
        Some("assistant" | "gpt" | "model" | "chatgpt" | "bing" | "bard") => Role::Assistant,
        _ => return Err(format!("`{}` is {role}, not system, user or assistant", keys.role)),
    };
    Ok(Message { role, content: content_of(content)? })
}

/// The text of a turn, which may be a list of parts.
fn content_of(content: &Value) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| {
                let text = part.get("text").and_then(Value::as_str);
                text.ok_or_else(|| {
                    format!("a part of its content is not a text: {}", excerpt(part))
                })
            })
            .collect(),
        other => Err(format!("its content is {}, not a text", kind(other))),
    }
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
