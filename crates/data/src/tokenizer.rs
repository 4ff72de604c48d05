//! The world's tokenizer, and the sequence format of samples.
//!
//! A sample becomes `<bos> prompt <bot> answer <eos>`. The world's tokenizer has one token per
//! word. [`Codec`] works with any tokenizer that has the four special tokens, so a model directory
//! may bring its own.

use std::path::Path;

use tokenizers::{
    AddedToken, Encoding, ModelWrapper, Tokenizer, models::wordlevel::WordLevel,
    pre_tokenizers::whitespace::WhitespaceSplit,
};

use crate::world::{SPECIAL_TOKENS, vocabulary};
use crate::{Error, Result};

/// The tokenizer of the world: one token per word, words split at spaces.
///
/// It has no token for unknown words.
///
/// # Errors
///
/// If the tokenizer library refuses to build it, which the world's words give no reason for.
pub fn world_tokenizer() -> Result<Tokenizer> {
    let words = vocabulary().into_iter().map(str::to_owned);
    let model =
        WordLevel::builder().vocab(words.zip(0..).collect()).build().map_err(Error::Tokenizer)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    let specials = SPECIAL_TOKENS.map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(specials).map_err(Error::Tokenizer)?;
    Ok(tokenizer)
}

/// The world's tokenizer as the text of a `tokenizer.json`.
///
/// # Errors
///
/// As for [`world_tokenizer`].
pub fn tokenizer_json() -> Result<String> {
    world_tokenizer()?.to_string(true).map_err(Error::Tokenizer)
}

/// Turns samples into token ids and generated ids into text.
#[derive(Debug, Clone)]
pub struct Codec {
    tokenizer: Tokenizer,
    /// The ids of [`SPECIAL_TOKENS`], in that order.
    specials: [u32; 4],
    unknown: Option<u32>,
}

impl Codec {
    /// Wraps a tokenizer, whose own padding and truncation it switches off.
    ///
    /// # Errors
    ///
    /// If the tokenizer lacks one of the four special tokens; the error names all it lacks.
    pub fn new(mut tokenizer: Tokenizer) -> Result<Self> {
        let ids = SPECIAL_TOKENS.map(|token| tokenizer.token_to_id(token));
        let [Some(pad), Some(bos), Some(bot), Some(eos)] = ids else {
            let missing = SPECIAL_TOKENS.into_iter().zip(ids).filter(|(_, id)| id.is_none());
            return Err(Error::MissingSpecials(missing.map(|(token, _)| token).collect()));
        };
        tokenizer.with_padding(None).with_truncation(None).map_err(Error::Tokenizer)?;
        let unknown = match tokenizer.get_model() {
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::BPE(model) => model.unk_token.clone(),
            ModelWrapper::Unigram(_) => None,
        };
        let unknown = unknown.and_then(|token| tokenizer.token_to_id(&token));
        Ok(Self { tokenizer, specials: [pad, bos, bot, eos], unknown })
    }

    /// The codec of the world's own tokenizer.
    ///
    /// # Errors
    ///
    /// As for [`world_tokenizer`].
    pub fn world() -> Result<Self> {
        Self::new(world_tokenizer()?)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// If the file is missing or broken, or its tokenizer lacks special tokens.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let tokenizer = Tokenizer::from_file(path)
            .map_err(|source| Error::TokenizerFile { path: path.to_owned(), source })?;
        Self::new(tokenizer)
    }

    /// The id of padding.
    #[must_use]
    pub fn pad(&self) -> u32 {
        self.specials[0]
    }

    /// The id that starts a sequence.
    #[must_use]
    pub fn bos(&self) -> u32 {
        self.specials[1]
    }

    /// The id between prompt and answer.
    #[must_use]
    pub fn bot(&self) -> u32 {
        self.specials[2]
    }

    /// The id that ends an answer.
    #[must_use]
    pub fn eos(&self) -> u32 {
        self.specials[3]
    }

    /// How many ids there are, special ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The tokenizer inside.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// `<bos> prompt <bot> answer <eos>`, and the length of its part up to and with `<bot>`.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode_text`].
    pub fn encode_sample(&self, prompt: &str, answer: &str) -> Result<(Vec<u32>, usize)> {
        let mut tokens = self.encode_prompt(prompt)?;
        let prompt_len = tokens.len();
        tokens.extend(self.encode_text(answer)?);
        tokens.push(self.eos());
        Ok((tokens, prompt_len))
    }

    /// `<bos> prompt <bot>`, after which a model writes its answer.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode_text`].
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut tokens = vec![self.bos()];
        tokens.extend(self.encode_text(prompt)?);
        tokens.push(self.bot());
        Ok(tokens)
    }

    /// The ids of a text, with nothing added.
    ///
    /// # Errors
    ///
    /// If a word is unknown to the tokenizer, or the text holds one of the four special tokens.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = match self.tokenizer.encode(text, false) {
            Ok(encoding) => encoding,
            Err(source) => return Err(self.explain(text, source)),
        };
        for (position, id) in encoding.get_ids().iter().enumerate() {
            if let Some(special) = self.specials.iter().position(|special| special == id) {
                let token = SPECIAL_TOKENS[special];
                return Err(Error::SpecialInText { token, text: text.to_owned() });
            }
            if self.unknown == Some(*id) {
                return Err(unknown_word(word_at(text, &encoding, position), text));
            }
        }
        Ok(encoding.get_ids().to_vec())
    }

    /// The first id of each word, as a model would begin an answer with it.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode_text`]; a word that has no token is unknown.
    pub fn first_ids(&self, words: &[&str]) -> Result<Vec<u32>> {
        let first = |word: &&str| {
            let ids = self.encode_text(word)?;
            ids.first().copied().ok_or_else(|| unknown_word(word, word))
        };
        words.iter().map(first).collect()
    }

    /// The text of generated ids up to `<eos>`, without special tokens.
    ///
    /// # Errors
    ///
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let kept: Vec<u32> = tokens
            .iter()
            .copied()
            .take_while(|id| *id != self.eos())
            .filter(|id| !self.specials.contains(id))
            .collect();
        self.tokenizer.decode(&kept, true).map_err(Error::Tokenizer)
    }

    /// Blames the first word that cannot be encoded alone, if there is one.
    fn explain(&self, text: &str, source: tokenizers::Error) -> Error {
        let mut words = text.split_whitespace();
        match words.find(|word| self.tokenizer.encode(*word, false).is_err()) {
            Some(word) => unknown_word(word, text),
            None => Error::Tokenizer(source),
        }
    }
}

fn unknown_word(word: &str, text: &str) -> Error {
    Error::UnknownWord { word: word.to_owned(), text: text.to_owned() }
}

/// The word of the text in which a token begins.
fn word_at<'a>(text: &'a str, encoding: &Encoding, position: usize) -> &'a str {
    let (start, end) = encoding.get_offsets()[position];
    let (Some(before), Some(piece)) = (text.get(..start), text.get(start..end)) else {
        return text;
    };
    let begin = before.len() - before.split(char::is_whitespace).next_back().map_or(0, str::len);
    text[begin..].split_whitespace().next().unwrap_or(piece)
}
