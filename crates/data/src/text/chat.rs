//! A model's chat template.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use minijinja::Value;
use minijinja::value::Serde;

use super::TextError;
use super::files::Files;
use super::jinja::Compiled;
use super::specials::Specials;
use crate::sample::{Ask, Message, Role, Sample};
use crate::{Error, Result};

/// A chat template, with the special tokens that it can use.
#[derive(Clone, Debug)]
pub(super) struct Chat {
    template: Compiled,
    tokens: BTreeMap<String, String>,
    origin: PathBuf,
    /// Variables that it reads and nothing supplies.
    unknown: Vec<String>,
}

/// Variables that are supplied, or left undefined on purpose as transformers does by default:
/// options of templates, whose default is that of the template.
const KNOWN: [&str; 28] = [
    "add_generation_prompt",
    "add_vision_id",
    "bos_token",
    "builtin_tools",
    "cls_token",
    "continue_final_message",
    "controls",
    "custom_tools",
    "date_string",
    "documents",
    "enable_thinking",
    "eos_token",
    "keep_past_thinking",
    "mask_token",
    "messages",
    "model_identity",
    "pad_token",
    "preserve_thinking",
    "reasoning_effort",
    "sep_token",
    "system_message",
    "thinking",
    "tool_choice",
    "tools",
    "tools_in_user_message",
    "unk_token",
    "xml_tools",
    "python_tools",
];

impl Chat {
    /// The template of a model directory, compiled.
    ///
    /// # Errors
    /// When it is invalid.
    pub(super) fn find(files: &mut Files, specials: &Specials) -> Result<Option<Self>> {
        let Some((source, origin)) = source(files, specials)? else { return Ok(None) };
        let template = Compiled::new(&source).map_err(|problem| TextError::Chat {
            origin: origin.clone(),
            problem: format!("is invalid: {problem}"),
        })?;
        let roles = specials.named.iter().map(|(role, token)| (*role, token));
        let others = specials.further.named.iter().map(|(name, token)| (name.as_str(), token));
        let tokens = roles.chain(others);
        let tokens: BTreeMap<_, _> =
            tokens.map(|(name, token)| (name.to_owned(), token.content.clone())).collect();
        let known: Vec<_> = KNOWN.into_iter().chain(tokens.keys().map(String::as_str)).collect();
        let unknown = template.unknown(&known);
        Ok(Some(Self { template, tokens, origin, unknown }))
    }

    /// The formatted prompt, up to the start of the model's answer.
    ///
    /// # Errors
    /// Errors of the template.
    pub(super) fn ask(&self, ask: &Ask) -> Result<String> {
        self.render(&turns(ask)?, true)
    }

    /// A warning about variables that nothing supplies, if there are any.
    pub(super) fn remark(&self) -> Option<String> {
        let some = vxf_untrusted::some(&self.unknown);
        let of = "the chat template reads";
        (!self.unknown.is_empty()).then(|| format!("{of} {some}, which nothing defines"))
    }

    /// The whole conversation of a sample, with the answer as its last turn.
    ///
    /// # Errors
    /// Errors of the template. When the conversation does not begin with the formatted prompt, because
    /// then training and generation would use different texts.
    pub(super) fn sample(&self, sample: &Sample) -> Result<String> {
        let mut turns = turns(&sample.ask)?;
        let asked = self.render(&turns, true)?;
        turns.push(Message { role: Role::Assistant, content: sample.answer.clone() });
        let whole = self.render(&turns, false)?;
        if whole.starts_with(&asked) {
            return Ok(whole);
        }
        let same = asked.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
        Err(self.error(format!(
            "formats a prompt differently with and without its answer: after {same} bytes it is \
             {:?} without and {:?} with the answer; use `alpaca` or `plain`, or write your own \
             chat_template.jinja",
            excerpt(&asked, same),
            excerpt(&whole, same),
        )))
    }

    /// A whole conversation, without the start of a further answer.
    ///
    /// # Errors
    /// Errors of the template.
    pub(super) fn conversation(&self, turns: &[Message]) -> Result<String> {
        self.render(turns, false)
    }

    /// The text that the template writes after an answer, if it can be found.
    pub(super) fn after_answer(&self) -> Option<String> {
        const ANSWER: &str = "vxfanswer";
        let turn = |role, content: &str| Message { role, content: content.to_owned() };
        let turns = [turn(Role::User, "vxfquestion"), turn(Role::Assistant, ANSWER)];
        let whole = self.render(&turns, false).ok()?;
        whole.rsplit_once(ANSWER).map(|(_, after)| after.to_owned())
    }

    /// The whole conversation of a sample, and the places in it of all answers in bytes.
    ///
    /// They are those that the template marks (`{% generation %}`). Where it marks none, an answer begins
    /// where the prompt before it ends, and ends with what the template writes after an answer.
    ///
    /// # Errors
    /// Errors of the template; when it writes a prompt differently within the whole conversation.
    pub(super) fn answers(&self, sample: &Sample) -> Result<(String, Vec<Range<usize>>)> {
        let mut turns = turns(&sample.ask)?;
        turns.push(Message { role: Role::Assistant, content: sample.answer.clone() });
        let (whole, marked) = self.rendered(&turns, false)?;
        if !marked.is_empty() {
            return Ok((whole, marked));
        }
        let after = self.after_answer().filter(|after| !after.is_empty());
        let mut answers = Vec::new();
        let by_model = |(_, turn): &(usize, &Message)| turn.role == Role::Assistant;
        for (number, turn) in turns.iter().enumerate().filter(by_model) {
            let asked = self.render(&turns[..number], true)?;
            let place = whole.strip_prefix(asked.as_str()).and_then(|rest| {
                let is_last = number + 1 == turns.len();
                let end = match (&after, is_last) {
                    (_, true) => rest.len(),
                    (Some(after), false) => {
                        // What follows an answer may occur in it.
                        let own = turn.content.trim();
                        let inside = rest.find(own).map_or(0, |at| at + own.len());
                        inside + rest[inside..].find(after.as_str())? + after.len()
                    }
                    (None, false) => return None,
                };
                Some(asked.len()..asked.len() + end)
            });
            answers.push(place.ok_or_else(|| {
                self.error(format!(
                    "does not show where answer {} of a conversation begins and ends, as \
                     `train_on = \"all\"` needs; mark it with {{% generation %}}, or use \
                     `train_on = \"last\"`",
                    answers.len() + 1
                ))
            })?);
        }
        Ok((whole, answers))
    }

    fn render(&self, turns: &[Message], add_generation_prompt: bool) -> Result<String> {
        Ok(self.rendered(turns, add_generation_prompt)?.0)
    }

    /// The text, and the places of answers that the template marks.
    fn rendered(
        &self,
        turns: &[Message],
        add_generation_prompt: bool,
    ) -> Result<(String, Vec<Range<usize>>)> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.extend(self.tokens.iter().map(|(role, text)| (role.as_str(), text.into())));
        context.insert("messages", Serde(turns).into());
        context.insert("add_generation_prompt", add_generation_prompt.into());
        // As in `transformers` if there are none.
        context.insert("tools", ().into());
        context.insert("documents", ().into());
        let given = turns.iter().map(|turn| turn.content.len()).sum();
        self.template.render(context.into(), given).map_err(|problem| self.error(problem))
    }

    fn error(&self, problem: String) -> Error {
        TextError::Chat { origin: self.origin.clone(), problem }.into()
    }
}

/// The template of a model directory and its file: `chat_template.jinja`, or the entry in
/// `tokenizer_config.json`; of several entries the one named `default`.
///
/// # Errors
/// When none of several has that name.
pub(super) fn source(files: &mut Files, specials: &Specials) -> Result<Option<(String, PathBuf)>> {
    const FILE: &str = "chat_template.jinja";
    const ENTRY: &str = "tokenizer_config.json";
    Ok(Some(match (files.text(FILE)?, &specials.chat_template) {
        (Some(source), _) => (source, files.path(FILE)),
        (None, serde_json::Value::String(source)) => (source.clone(), files.path(ENTRY)),
        (None, serde_json::Value::Object(named)) => {
            let origin = files.path(ENTRY);
            let source = named.get("default").and_then(serde_json::Value::as_str);
            let source = source.ok_or_else(|| {
                let names = named.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let problem = format!(
                    "has the chat templates {names}, but none named `default`; write the one to use into {FILE}"
                );
                TextError::file(&origin, problem)
            })?;
            (source.to_owned(), origin)
        }
        (None, serde_json::Value::Array(named)) => {
            let origin = files.path(ENTRY);
            let default = named.iter().find(|entry| entry["name"] == "default");
            let source = default.and_then(|entry| entry["template"].as_str());
            let names = || {
                let names = named.iter().filter_map(|entry| entry["name"].as_str());
                names.collect::<Vec<_>>().join(", ")
            };
            let source = source.ok_or_else(|| {
                TextError::file(
                    &origin,
                    format!(
                        "has the chat templates {}, but none named `default`; write the one to \
                         use into {FILE}",
                        names()
                    ),
                )
            })?;
            (source.to_owned(), origin)
        }
        _ => return Ok(None),
    }))
}

/// The turns of a prompt; an instruction is one turn by the user, with its input after a blank line.
fn turns(ask: &Ask) -> Result<Vec<Message>> {
    match ask {
        Ask::Messages(turns) if !turns.is_empty() => Ok(turns.clone()),
        Ask::Instruction { .. } => Ok(vec![Message { role: Role::User, content: ask.shown() }]),
        Ask::Messages(_) | Ask::Nothing => Err(super::alpaca::nothing("chat")),
    }
}

/// A few characters of `text` from the byte `from` on.
fn excerpt(text: &str, from: usize) -> String {
    let start = (0..=from.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[start.unwrap_or(0)..].chars().take(24).collect()
}
