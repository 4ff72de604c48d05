//! Samples to tokens, and generated tokens to text.

use vxf_core::Example;

use super::codec::{Codec, Template};
use super::{TextError, alpaca, tokenize};
use crate::Result;
use crate::sample::{Ask, Message, Sample};

/// A sample as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The tokens, cut at the longest length; it has no labelled token where all of them are
    /// prompt, and such samples are the caller's to drop.
    pub example: Example,
    /// Whether something was cut off.
    pub truncated: bool,
    /// Whether the prompt's tokens alone are not those that the whole begins with, because letters
    /// on both sides of the border became one token. The reference goes by their number, and so
    /// does [`Example::prompt`].
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
                (tokenize::ids(&self.tokenizer, &chat.sample(sample)?)?, self.prompt(ask)?)
            }
            (_, ask) => {
                let whole = [&self.asked(ask)?, sample.answer.as_str(), self.end()?].concat();
                (self.tokens(&whole)?, self.prompt(ask)?)
            }
        };
        let merged = !tokens.starts_with(&prompt);
        let truncated = tokens.len() > max_length;
        tokens.truncate(max_length);
        let prompt = prompt.len().min(tokens.len());
        Ok(Encoded { example: Example { tokens, prompt }, truncated, merged })
    }

    /// The tokens of what asks, after which the model writes its answer.
    ///
    /// # Errors
    /// When it does not fit the template, or nothing is asked.
    pub fn prompt(&self, ask: &Ask) -> Result<Vec<u32>> {
        match &self.template {
            Template::World(strict) => strict.ask(&self.tokenizer, &self.asked(ask)?),
            Template::Chat(_) => tokenize::ids(&self.tokenizer, &self.asked(ask)?),
            Template::Alpaca | Template::Plain => self.tokens(&self.asked(ask)?),
        }
    }

    /// The text that asks, as the model sees it; in the world's format without special tokens.
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

    /// The tokens of a whole conversation as the chat template writes it, nothing asked for: what
    /// a guard model reads.
    ///
    /// # Errors
    /// When the template is none for conversations, or refuses this one.
    pub fn conversation(&self, turns: &[Message]) -> Result<Vec<u32>> {
        match &self.template {
            Template::Chat(chat) => tokenize::ids(&self.tokenizer, &chat.conversation(turns)?),
            _ => Err(TextError::unfit(self.template(), "takes no conversation; take `chat`")),
        }
    }

    /// The tokens of a text that no template is put around, with what the tokenizer itself puts
    /// before it. Special tokens that are written out are recognised.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.prefix.clone();
        tokens.extend(tokenize::ids(&self.tokenizer, text)?);
        Ok(tokens)
    }

    /// The text of an answer up to its end, special tokens left out and trimmed; in `alpaca` also
    /// only up to where the model opens another answer.
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
        let text = match &self.template {
            Template::Alpaca => text.split(alpaca::RESPONSE).next().unwrap_or_default(),
            _ => &text,
        };
        Ok(text.trim().to_owned())
    }

    /// The token that `word` at the start of an answer becomes; none if it has none of its own.
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
            let problem = "ends an answer with the tokenizer's `eos_token`, and none is known; \
                           name it in tokenizer_config.json";
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
