//! A tokenizer with a template.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokenizers::{ModelWrapper, Tokenizer};

use super::chat::Chat;
use super::files::Files;
use super::generation::Longest;
use super::specials::{CleanUp, Specials};
use super::strict::Strict;
use super::{Generation, TemplateChoice, TextError, tokenize};
use crate::sample::{Ask, Sample};
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
    /// Whether spaces before punctuation are taken out of decoded texts.
    pub(super) clean_up: bool,
    ends: BTreeSet<u32>,
    files: Vec<PathBuf>,
    generation: Generation,
    longest: Option<Longest>,
    remarks: Vec<String>,
    /// The number of tokens that have an embedding.
    vocabulary: usize,
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
        codec.generation = specials.generation;
        codec.longest = specials.longest;
        codec.remarks = specials.remarks;
        if let Template::Chat(chat) = &codec.template {
            codec.remarks.extend(chat.remark());
        }
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
            clean_up: match specials.clean_up {
                CleanUp::No => false,
                CleanUp::NotBpe => !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)),
                CleanUp::All => true,
            },
            ends: specials.ends.iter().copied().collect(),
            tokenizer,
            template,
            files: Vec::new(),
            generation: Generation::default(),
            longest: None,
            remarks: Vec::new(),
            vocabulary: usize::MAX,
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

    /// What the model's files change in greedy decoding.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// A remark, if the model's files limit answers otherwise than to `most` tokens.
    pub fn other_limit(&self, most: usize) -> Option<String> {
        self.longest.as_ref().and_then(|longest| longest.remark(most))
    }

    /// What the user should know about the files, such as unknown keys; empty for ordinary files.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// For a model with this number of embeddings: a text with a token beyond them is an error.
    ///
    /// Tokens that no text has, such as an added padding token, do no harm.
    #[must_use]
    pub fn for_vocabulary(self, vocabulary: usize) -> Self {
        Self { vocabulary, ..self }
    }

    /// Checks that these tokens have an embedding.
    ///
    /// # Errors
    /// Names the first token that has none.
    pub(super) fn known(&self, tokens: Vec<u32>) -> Result<Vec<u32>> {
        let size = self.vocabulary;
        match tokens.iter().find(|token| **token as usize >= size) {
            None => Ok(tokens),
            Some(&id) => {
                let token = self.tokenizer.id_to_token(id).unwrap_or_default();
                Err(TextError::Vocabulary { token, id, size }.into())
            }
        }
    }

    /// Checks that the template can format a sample; of a test set, its prompt.
    ///
    /// # Errors
    /// When it cannot; the text says why.
    pub fn check(&self, sample: &Sample, test: bool) -> Result<(), String> {
        let checked = match (&self.template, &sample.ask) {
            (_, Ask::Nothing) | (Template::World(_), _) => Ok(()),
            (Template::Chat(chat), _) if !test => chat.sample(sample).map(drop),
            (_, ask) => self.asked(ask).map(drop),
        };
        checked.map_err(|error| error.to_string())
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
