//! The strict sequence format of the embedded world.

use tokenizers::{Encoding, ModelWrapper, Tokenizer};

use super::tokenize::encoding;
use crate::{Error, Result};

/// The special tokens of the format: padding, start, start of the answer, end.
pub const SPECIAL_TOKENS: [&str; 4] = ["<pad>", "<bos>", "<bot>", "<eos>"];

/// `<bos> prompt <bot> answer <eos>`, without unknown words or special tokens in texts.
#[derive(Clone, Debug)]
pub(super) struct Strict {
    /// The ids of [`SPECIAL_TOKENS`], in that order.
    specials: [u32; 4],
    unknown: Option<u32>,
}

impl Strict {
    /// Whether a tokenizer has the special tokens of the format.
    pub(super) fn fits(tokenizer: &Tokenizer) -> bool {
        SPECIAL_TOKENS.iter().all(|token| tokenizer.token_to_id(token).is_some())
    }

    /// # Errors
    /// If the tokenizer lacks special tokens; the error names all of them.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let ids = SPECIAL_TOKENS.map(|token| tokenizer.token_to_id(token));
        let [Some(pad), Some(bos), Some(bot), Some(eos)] = ids else {
            let missing = SPECIAL_TOKENS.into_iter().zip(ids).filter(|(_, id)| id.is_none());
            return Err(Error::MissingSpecials(missing.map(|(token, _)| token).collect()));
        };
        let unknown = match tokenizer.get_model() {
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::BPE(model) => model.unk_token.clone(),
            ModelWrapper::Unigram(_) => None,
        };
        let unknown = unknown.and_then(|token| tokenizer.token_to_id(&token));
        Ok(Self { specials: [pad, bos, bot, eos], unknown })
    }

    pub(super) fn bos(&self) -> u32 {
        self.specials[1]
    }

    pub(super) fn eos(&self) -> u32 {
        self.specials[3]
    }

    /// `<bos> prompt <bot>`, after which a model writes its answer.
    pub(super) fn ask(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
        let mut tokens = vec![self.bos()];
        tokens.extend(self.text(tokenizer, prompt)?);
        tokens.push(self.specials[2]);
        Ok(tokens)
    }

    /// The ids of a text, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer does not know a word, or the text contains a special token.
    pub(super) fn text(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        let encoding = match encoding(tokenizer, text) {
            Ok(encoding) => encoding,
            Err(source) => return Err(explain(tokenizer, text, source)),
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

    /// Whether a token is special; `tokenizer.json` need not mark it.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.specials.contains(&id)
    }
}

/// The error for the first word that cannot be encoded, or else the library's error.
fn explain(tokenizer: &Tokenizer, text: &str, source: tokenizers::Error) -> Error {
    let mut words = text.split_whitespace();
    match words.find(|word| encoding(tokenizer, word).is_err()) {
        Some(word) => unknown_word(word, text),
        None => Error::Tokenizer(source),
    }
}

fn unknown_word(word: &str, text: &str) -> Error {
    Error::UnknownWord { word: word.to_owned(), text: text.to_owned() }
}

/// The word in which a token begins.
fn word_at<'a>(text: &'a str, encoding: &Encoding, position: usize) -> &'a str {
    let (start, end) = encoding.get_offsets()[position];
    let (Some(before), Some(piece)) = (text.get(..start), text.get(start..end)) else {
        return text;
    };
    let begin = before.len() - before.split(char::is_whitespace).next_back().map_or(0, str::len);
    text[begin..].split_whitespace().next().unwrap_or(piece)
}
