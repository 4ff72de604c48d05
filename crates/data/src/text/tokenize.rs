//! The tokenizer of a model directory, and what it puts before a text.

use std::str::FromStr;

use tokenizers::{AddedToken, Encoding, Token, Tokenizer};
use vxf_untrusted::caught;

use super::files::Files;
use super::specials::Specials;
use super::{TextError, bpe};
use crate::{Error, Result};
use vxf_untrusted::tokenizer;

/// Files of tokenizers that are not read here.
const OTHERS: [&str; 4] = ["tokenizer.model", "spiece.model", "tekken.json", "tiktoken.model"];

/// Reads `tokenizer.json`, or makes a tokenizer of `vocab.json` and `merges.txt`.
///
/// Its own padding and truncation are switched off, and tokens that have a role are special.
///
/// # Errors
/// When there is neither, or a file is damaged; the error says how to get `tokenizer.json`.
pub(super) fn load(files: &mut Files, specials: &mut Specials) -> Result<Tokenizer> {
    let mut tokenizer = if files.has("tokenizer.json") {
        let path = files.path("tokenizer.json");
        let text = files.text("tokenizer.json")?.unwrap_or_default();
        let broken = |problem: String| TextError::file(&path, problem);
        tokenizer::check(&text).map_err(broken)?;
        match caught(|| Tokenizer::from_str(&text)) {
            Some(read) => read.map_err(|error| broken(format!("is no tokenizer: {error}")))?,
            None => return Err(broken("is no tokenizer: its parts do not fit together".into())),
        }
    } else if files.has("vocab.json") && files.has("merges.txt") {
        bpe::build(files, specials)?
    } else {
        return Err(missing(files));
    };
    tokenizer.with_padding(None).with_truncation(None).map_err(Error::Tokenizer)?;
    if let (None, Some(&end)) = (specials.text("eos_token"), specials.ends.first()) {
        let end = tokenizer.id_to_token(end).map(|text| AddedToken::from(text, true));
        specials.named.extend(end.map(|end| ("eos_token", end)));
    }
    let known = tokenizer.get_added_tokens_decoder();
    for token in specials.named.values() {
        // A token without an embedding is of no use: the vocabulary never grows.
        let has_id = tokenizer.token_to_id(&token.content).is_some();
        if has_id && !known.values().any(|known| known.content == token.content) {
            tokenizer.add_special_tokens([token.clone()]).map_err(Error::Tokenizer)?;
        }
    }
    Ok(tokenizer)
}

fn missing(files: &Files) -> Error {
    let other = OTHERS.into_iter().find(|name| files.has(name));
    let directory = files.directory();
    let found = match other {
        Some(name) => format!("there is only {name}, which is not read here"),
        None => "there is no tokenizer.json, nor vocab.json with merges.txt".to_owned(),
    };
    let name = directory.display();
    TextError::file(
        directory,
        format!(
            "{found}; make tokenizer.json with transformers: python -c \"from transformers import \
             AutoTokenizer as T; T.from_pretrained('{name}').save_pretrained('{name}')\""
        ),
    )
}

/// The ids that the tokenizer's post-processor puts before every text, such as that of `<s>`.
pub(super) fn prefix(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    // Stands for a text, whatever the vocabulary is.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, "x".into(), (0, 1))], 0);
    let around = guarded(|| tokenizer.post_process(text, None, true))?;
    Ok(around.get_ids().iter().copied().take_while(|id| *id != TEXT).collect())
}

/// The ids of a text with nothing added; special tokens that are written out are recognised.
pub(super) fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = guarded(|| tokenizer.encode_fast(text, false))?;
    Ok(encoding.get_ids().to_vec())
}

/// The text of some tokens, special ones left out.
pub(super) fn text(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String> {
    guarded(|| tokenizer.decode(ids, true))
}

/// A text cut up and with its offsets, nothing added.
///
/// # Errors
/// What the tokenizer library says.
pub(super) fn encoding(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Encoding> {
    caught(|| tokenizer.encode(text, false)).unwrap_or_else(|| Err(IMPOSSIBLE.into()))
}

const IMPOSSIBLE: &str = "its tokenizer.json asks for what cannot be done with a text";

/// What the tokenizer library says; where it panics over a file made for that, an error too.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|| Err(IMPOSSIBLE.into())).map_err(Error::Tokenizer)
}
