//! Encodes samples and decodes generated tokens.

use vxf_core::Example;

use super::codec::{Codec, Template};
use super::{TextError, alpaca, tokenize};
use crate::Result;
use crate::sample::{Ask, Message, Role, Sample};

/// A sample as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The truncated tokens. If only the prompt is left, there is no labelled token, and the caller
    /// has to drop the sample.
    pub example: Example,
    /// Whether the sample was truncated.
    pub truncated: bool,
    /// Whether the whole does not begin with the prompt's tokens, because characters on both sides of
    /// the border became one token. [`Example::prompt`] is then the number of the prompt's own tokens,
    /// as in the reference.
    pub merged: bool,
}

impl Codec {
    /// A sample as tokens, at most `max_length` of them.
    ///
    /// # Errors
    /// When the sample does not fit the template.
    pub fn encode(&self, sample: &Sample, max_length: usize) -> Result<Encoded> {
        let (mut tokens, prompt) = match (&self.template, &sample.ask) {
            (Template::World(strict), Ask::Nothing) => {
                let mut tokens = vec![strict.bos()];
                tokens.extend(strict.text(&self.tokenizer, &sample.answer)?);
                tokens.push(strict.eos());
                (tokens, Vec::new())
            }
            (Template::World(strict), ask) => {
                let prompt = self.prompt(ask)?;
                let mut tokens = prompt.clone();
                tokens.extend(strict.text(&self.tokenizer, &sample.answer)?);
                tokens.push(strict.eos());
                (tokens, prompt)
            }
            (_, Ask::Nothing) => {
                (self.tokens(&[&sample.answer, self.end()?].concat())?, Vec::new())
            }
            (Template::Chat(chat), ask) => {
                let tokens = tokenize::ids(&self.tokenizer, &chat.sample(sample)?)?;
                (tokens, self.prompt(ask)?)
            }
            (_, ask) => {
                let whole = [&self.asked(ask)?, sample.answer.as_str(), self.end()?].concat();
                (self.tokens(&whole)?, self.prompt(ask)?)
            }
        };
        tokens = self.known(tokens)?;
        let merged = !tokens.starts_with(&prompt);
        let truncated = tokens.len() > max_length;
        tokens.truncate(max_length);
        let prompt = prompt.len().min(tokens.len());
        let trained = Vec::new();
        Ok(Encoded { example: Example { tokens, prompt, trained }, truncated, merged })
    }

    /// The same, with all answers of a conversation trained on, not the last one alone.
    ///
    /// # Errors
    /// When the template does not show where earlier answers begin and end.
    pub fn encode_all_answers(&self, sample: &Sample, max_length: usize) -> Result<Encoded> {
        let mut encoded = self.encode(sample, max_length)?;
        let (Template::Chat(chat), Ask::Messages(turns)) = (&self.template, &sample.ask) else {
            return Ok(encoded);
        };
        if !turns.iter().any(|turn| turn.role == Role::Assistant) {
            return Ok(encoded);
        }
        let (whole, answers) = chat.answers(sample)?;
        let Encoded { example, merged, .. } = &mut encoded;
        let all = self.known(tokenize::ids(&self.tokenizer, &whole)?)?;
        for answer in answers {
            let mut border = |at: usize| -> Result<usize> {
                let before = self.known(tokenize::ids(&self.tokenizer, &whole[..at])?)?;
                *merged |= !all.starts_with(&before);
                Ok(before.len().min(example.tokens.len()))
            };
            let (start, end) = (border(answer.start)?, border(answer.end)?);
            if start < end {
                example.trained.push(start..end);
            }
        }
        if example.trained.is_empty() {
            // Nothing of an answer is left after the cut.
            example.prompt = example.tokens.len();
        }
        Ok(encoded)
    }

    /// The tokens of the formatted prompt, after which the model writes its answer.
    ///
    /// # Errors
    /// When the prompt does not fit the template, or there is none.
    pub fn prompt(&self, ask: &Ask) -> Result<Vec<u32>> {
        let asked = self.asked(ask)?;
        match &self.template {
            Template::World(strict) => self.known(strict.ask(&self.tokenizer, &asked)?),
            Template::Chat(_) => self.known(tokenize::ids(&self.tokenizer, &asked)?),
            Template::Alpaca | Template::Plain => self.tokens(&asked),
        }
    }

    /// The formatted prompt as text; in the world's format without special tokens.
    ///
    /// # Errors
    /// As for [`Codec::prompt`].
    pub fn asked(&self, ask: &Ask) -> Result<String> {
        match &self.template {
            Template::Alpaca => alpaca::ask(ask),
            Template::Chat(chat) => chat.ask(ask),
            Template::World(_) | Template::Plain => {
                let (instruction, input) = alpaca::instruction(self.template(), ask)?;
                Ok(match input {
                    "" => instruction.to_owned(),
                    input => format!("{instruction}\n\n{input}"),
                })
            }
        }
    }

    /// The tokens of a whole conversation in the chat template: the input of a guard model.
    ///
    /// # Errors
    /// When the template is not a chat template, or fails on this conversation.
    pub fn conversation(&self, turns: &[Message]) -> Result<Vec<u32>> {
        match &self.template {
            Template::Chat(chat) => {
                self.known(tokenize::ids(&self.tokenizer, &chat.conversation(turns)?)?)
            }
            _ => Err(TextError::unfit(self.template(), "cannot format a conversation; use `chat`")),
        }
    }

    /// The tokens of a text without a template, with the tokens that the tokenizer puts before it.
    /// Special tokens in the text are recognised.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.prefix.clone();
        tokens.extend(tokenize::ids(&self.tokenizer, text)?);
        self.known(tokens)
    }

    /// The text of an answer up to its end, trimmed and without special tokens.
    ///
    /// In `alpaca` it also ends where the model begins another answer.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let special = |id: u32| match &self.template {
            Template::World(strict) => strict.is_special(id),
            _ => false,
        };
        let answer = tokens.iter().copied().take_while(|id| !self.is_end(*id));
        let answer: Vec<_> = answer.filter(|id| !special(*id)).collect();
        let text = tokenize::text(&self.tokenizer, &answer)?;
        let text = if self.clean_up { tokenize::cleaned(&text) } else { text };
        let text = match &self.template {
            Template::Alpaca => text.split(alpaca::RESPONSE).next().unwrap_or_default(),
            _ => &text,
        };
        Ok(text.trim().to_owned())
    }

    /// The first token of an answer that begins with `word`; `None` if it merges with the prompt.
    pub fn opening(&self, word: &str) -> Option<u32> {
        if let Template::World(strict) = &self.template {
            return strict.text(&self.tokenizer, word).ok()?.first().copied();
        }
        let ask = Ask::instruction("?");
        let prompt = self.prompt(&ask).ok()?;
        let sample = Sample { ask, answer: word.to_owned() };
        let tokens = self.encode(&sample, usize::MAX).ok()?.example.tokens;
        tokens.strip_prefix(prompt.as_slice())?.first().copied()
    }

    fn end(&self) -> Result<&str> {
        self.eos().ok_or_else(|| {
            let problem = "needs the tokenizer's `eos_token` to end an answer, but there is none; \
                           set it in tokenizer_config.json";
            TextError::unfit(self.template(), problem)
        })
    }
}

impl vxf_core::metric::Text for Codec {
    fn decode(&self, tokens: &[u32]) -> vxf_core::Result<String> {
        self.decode(tokens)
            .map_err(|error| vxf_core::Error::Plugin { plugin: "tokenizer", source: error.into() })
    }

    fn is_end(&self, token: u32) -> bool {
        self.is_end(token)
    }

    fn opening(&self, word: &str) -> Option<u32> {
        self.opening(word)
    }
}
