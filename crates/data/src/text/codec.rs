//! A tokenizer with a template.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use super::chat::Chat;
use super::files::Files;
use super::specials::Specials;
use super::strict::Strict;
use super::{TemplateChoice, TextError, tokenize};
use crate::{Error, Result};

/// A tokenizer, and the template around samples.
#[derive(Clone, Debug)]
pub struct Codec {
    pub(super) tokenizer: Tokenizer,
    pub(super) template: Template,
    /// The tokens that the tokenizer puts before a text.
    pub(super) prefix: Vec<u32>,
    /// The text that ends an answer.
    pub(super) eos: Option<String>,
    ends: BTreeSet<u32>,
    files: Vec<PathBuf>,
}

/// The template of a codec.
#[derive(Clone, Debug)]
pub(super) enum Template {
    World(Strict),
    Alpaca,
    Chat(Box<Chat>),
    Plain,
}

impl Codec {
    /// A codec with the strict sequence format of the embedded world.
    ///
    /// # Errors
    /// When the tokenizer lacks the format's special tokens.
    pub fn strict(tokenizer: Tokenizer) -> Result<Self> {
        Self::assemble(tokenizer, &Specials::default(), TemplateChoice::World, || Ok(None))
    }

    /// The codec of the model in `directory`, in the Hugging Face layout.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model lacks something that the template needs.
    pub fn open(directory: &Path, choice: TemplateChoice) -> Result<Self> {
        let mut files = Files::of(directory)?;
        let mut specials = Specials::read(&mut files)?;
        let tokenizer = tokenize::load(&mut files, &mut specials)?;
        let mut codec =
            Self::assemble(tokenizer, &specials, choice, || Chat::find(&mut files, &specials))
                .map_err(|error| at(directory, error))?;
        codec.files = files.read();
        Ok(codec)
    }

    fn assemble(
        tokenizer: Tokenizer,
        specials: &Specials,
        choice: TemplateChoice,
        chat: impl FnOnce() -> Result<Option<Chat>>,
    ) -> Result<Self> {
        let template = match choice {
            TemplateChoice::World => Template::World(Strict::new(&tokenizer)?),
            TemplateChoice::Auto if Strict::fits(&tokenizer) => {
                Template::World(Strict::new(&tokenizer)?)
            }
            TemplateChoice::Alpaca => Template::Alpaca,
            TemplateChoice::Plain => Template::Plain,
            TemplateChoice::Chat | TemplateChoice::Auto => match chat()? {
                Some(chat) => Template::Chat(Box::new(chat)),
                None if choice == TemplateChoice::Auto => Template::Alpaca,
                None => {
                    let problem = "is missing: this model has neither chat_template.jinja nor a \
                                   chat_template in tokenizer_config.json; write one, or use \
                                   `alpaca` or `plain`";
                    return Err(TextError::unfit("chat", problem));
                }
            },
        };
        let mut codec = Self {
            prefix: tokenize::prefix(&tokenizer)?,
            eos: specials.text("eos_token").map(str::to_owned),
            ends: specials.ends.iter().copied().collect(),
            tokenizer,
            template,
            files: Vec::new(),
        };
        codec.ends.extend(codec.eos.as_deref().and_then(|eos| codec.tokenizer.token_to_id(eos)));
        match &codec.template {
            Template::World(strict) => codec.ends = BTreeSet::from([strict.eos()]),
            Template::Chat(chat) => {
                let end = chat.after_answer().and_then(|text| codec.first_special(&text));
                codec.ends.extend(end);
            }
            Template::Alpaca | Template::Plain => {}
        }
        Ok(codec)
    }

    /// The name of the template.
    pub fn template(&self) -> &'static str {
        match self.template {
            Template::World(_) => "world",
            Template::Alpaca => "alpaca",
            Template::Chat(_) => "chat",
            Template::Plain => "plain",
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The files that it was read from, in reading order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The id of a token of the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The text that ends an answer, such as `</s>`.
    pub fn eos(&self) -> Option<&str> {
        self.eos.as_deref()
    }

    /// Checks that every token has an embedding. Unused embeddings are common and allowed.
    ///
    /// # Errors
    /// Names the token with the largest id, if that is `size` or more.
    pub fn fits(&self, size: usize) -> Result<()> {
        let tokens = self.tokenizer.get_vocab(true);
        match tokens.into_iter().max_by_key(|(_, id)| *id) {
            Some((token, id)) if id as usize >= size => {
                Err(TextError::Vocabulary { token, id, size }.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The first special token in a text.
    fn first_special(&self, text: &str) -> Option<u32> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let ids = tokenize::ids(&self.tokenizer, text).ok()?;
        ids.into_iter().find(|id| added.contains_key(id))
    }
}

/// Adds the directory to an error of a template.
fn at(directory: &Path, error: Error) -> Error {
    match error {
        Error::Text(TextError::Unfit { template, problem }) => {
            TextError::file(directory, format!("the template `{template}` {problem}"))
        }
        Error::MissingSpecials(missing) => TextError::file(
            directory,
            format!(
                "the template `world` needs the special tokens {}, which this tokenizer lacks; use \
                 `alpaca`, `chat` or `plain`",
                missing.join(" ")
            ),
        ),
        other => other,
    }
}
