//! The world's tokenizer.

use tokenizers::{
    AddedToken, Tokenizer, models::wordlevel::WordLevel,
    pre_tokenizers::whitespace::WhitespaceSplit,
};
use vxf_data::text::SPECIAL_TOKENS;
use vxf_data::{Codec, Error, Result};

use crate::vocabulary;

/// The world's codec: tokenizer and sequence format.
///
/// # Errors
///
/// As for [`tokenizer`].
pub fn codec() -> Result<Codec> {
    Codec::strict(tokenizer()?)
}

/// The world's tokenizer: one token per word, split at spaces. It has no token for unknown words.
///
/// # Errors
///
/// If the tokenizer library rejects the vocabulary, which does not happen with the world's words.
pub fn tokenizer() -> Result<Tokenizer> {
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
/// As for [`tokenizer`].
pub fn tokenizer_json() -> Result<String> {
    tokenizer()?.to_string(true).map_err(Error::Tokenizer)
}

/// The tokenizer's files in a model directory, by name: `tokenizer.json` and
/// `tokenizer_config.json` (roles of special tokens).
///
/// # Errors
///
/// As for [`tokenizer`].
pub fn tokenizer_files() -> Result<[(&'static str, String); 2]> {
    let [pad, bos, _, eos] = SPECIAL_TOKENS;
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "bos_token": bos,
        "eos_token": eos,
    });
    let config = format!("{config:#}\n");
    Ok([("tokenizer.json", tokenizer_json()?), ("tokenizer_config.json", config)])
}
