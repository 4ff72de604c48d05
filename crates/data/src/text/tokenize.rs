//! The tokenizer of a model directory.

use std::collections::HashMap;
use std::str::FromStr;

use tokenizers::{AddedToken, Encoding, ModelWrapper, PreTokenizerWrapper, Token, Tokenizer};
use vxf_untrusted::caught;

use super::files::Files;
use super::specials::{Added, Specials};
use super::{TextError, bpe, llama};
use crate::{Error, Result};
use vxf_untrusted::tokenizer;

/// Tokenizer files in unsupported formats.
const OTHERS: [&str; 4] = ["tokenizer.model", "spiece.model", "tekken.json", "tiktoken.model"];

/// Reads `tokenizer.json`, or builds a tokenizer from `vocab.json` and `merges.txt`.
///
/// Padding and truncation are switched off. Tokens with a role become special.
///
/// # Errors
/// When both are missing, or a file is damaged; the error says how to make `tokenizer.json`.
pub(super) fn load(files: &mut Files, specials: &mut Specials) -> Result<Tokenizer> {
    let mut tokenizer = if files.has("tokenizer.json") {
        let path = files.path("tokenizer.json");
        let text = files.text("tokenizer.json")?.unwrap_or_default();
        let broken = |problem: String| TextError::file(&path, problem);
        tokenizer::check(&text).map_err(broken)?;
        let read = match caught(|| Tokenizer::from_str(&text)) {
            Some(read) => read.map_err(|error| broken(format!("is not a tokenizer: {error}")))?,
            None => return Err(broken("is not a tokenizer: its parts do not fit together".into())),
        };
        if let ModelWrapper::BPE(model) = read.get_model()
            && let Some(share) = model.dropout.filter(|share| *share > 0.0)
        {
            return Err(broken(format!(
                "has `model.dropout` = {share}, which splits a text differently each time; set it to null"
            )));
        }
        read
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
    add_listed(&mut tokenizer, files, specials)?;
    let end = specials.text("eos_token").filter(|end| {
        let mut further = specials.further.unnamed.iter();
        tokenizer.token_to_id(end).is_none() && further.all(|token| token.content != **end)
    });
    if let Some(end) = end {
        let problem = format!(
            "the end of an answer, `eos_token` = {end:?}, is not in the vocabulary; correct it in \
             tokenizer_config.json"
        );
        return Err(TextError::file(files.directory(), problem));
    }
    add_special(&mut tokenizer, specials)?;
    if files.has("tokenizer.json") {
        let remarks = contradicted(&tokenizer, specials)?;
        specials.remarks.extend(remarks);
        specials.remarks.extend(llama::otherwise(&tokenizer, specials)?);
    } else {
        bpe::begin(&mut tokenizer, files, specials)?;
    }
    Ok(tokenizer)
}

/// Adds the tokens of `added_tokens.json` and `added_tokens_decoder`, in the order of their ids.
///
/// Flags of a token that the vocabulary has are those of `added_tokens_decoder`, and its id that of the
/// vocabulary, as in transformers; another id is remarked upon.
///
/// # Errors
/// When a token would not get the id that its file says.
fn add_listed(tokenizer: &mut Tokenizer, files: &Files, specials: &mut Specials) -> Result<()> {
    let known = known(tokenizer);
    // Added together: each call makes the search for added tokens anew.
    let mut changed = Vec::new();
    for (&id, Added { token, flagged }) in &specials.added {
        let instead = || match tokenizer.id_to_token(id) {
            Some(other) => format!("{id} is the id of `{other}`"),
            None => format!("{id} is not the next id"),
        };
        match tokenizer.token_to_id(&token.content) {
            Some(own) if own != id => specials.remarks.push(format!(
                "the added token `{}` should have id {id}, but has id {own} in the vocabulary, which \
                 is used; {}",
                token.content,
                instead(),
            )),
            Some(_) => match known.get(&token.content) {
                Some(own) if !flagged || alike(own, token) => {}
                // A token that only the vocabulary has would be split into pieces.
                _ => changed.push(token.clone()),
            },
            None => {
                let instead = instead();
                add(tokenizer, [token.clone()])?;
                if tokenizer.token_to_id(&token.content) != Some(id) {
                    let problem = format!(
                        "the added token `{}` should have id {id}, but {instead} in the vocabulary; \
                         save the tokenizer again as tokenizer.json",
                        token.content
                    );
                    return Err(TextError::file(files.directory(), problem));
                }
            }
        }
    }
    add(tokenizer, changed)
}

/// Whether two tokens of one text have the same flags, too.
fn alike(one: &AddedToken, other: &AddedToken) -> bool {
    let flags = |it: &AddedToken| [it.single_word, it.lstrip, it.rstrip, it.normalized, it.special];
    flags(one) == flags(other)
}

/// Adds special tokens in the order of transformers, which decides the ids of new ones: first those with
/// a role, then those with another name, then the others. A text that has a new one may need a row of
/// the embedding that the model lacks; that is checked where it is used.
fn add_special(tokenizer: &mut Tokenizer, specials: &Specials) -> Result<()> {
    let known = known(tokenizer);
    // A token with a name is special, whatever tokenizer.json says; its other flags stay.
    let named = specials.in_order().map(|token| {
        let own = known.get(&token.content);
        own.unwrap_or(token).clone().special(true)
    });
    let mut tokens: Vec<_> = named.collect();
    for token in &specials.further.unnamed {
        let is_new = tokens.iter().all(|other| other.content != token.content);
        if is_new && !known.contains_key(&token.content) {
            tokens.push(token.clone());
        }
    }
    add(tokenizer, tokens)
}

/// The added tokens by their text.
fn known(tokenizer: &Tokenizer) -> HashMap<String, AddedToken> {
    let added = tokenizer.get_added_tokens_decoder().into_values();
    added.map(|token| (token.content.clone(), token)).collect()
}

fn add(tokenizer: &mut Tokenizer, tokens: impl IntoIterator<Item = AddedToken>) -> Result<()> {
    tokenizer.add_tokens(tokens).map(drop).map_err(Error::Tokenizer)
}

/// Settings of `tokenizer_config.json` for which `tokenizer.json` has something else.
fn contradicted(tokenizer: &Tokenizer, specials: &Specials) -> Result<Vec<String>> {
    let bos = specials.text("bos_token").and_then(|bos| tokenizer.token_to_id(bos));
    let begins = match bos {
        Some(bos) => Some(prefix(tokenizer)?.contains(&bos)),
        None => None,
    };
    let steps = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::Sequence(steps)) => steps.as_ref(),
        Some(step) => std::slice::from_ref(step),
        None => &[],
    };
    let space = steps.iter().find_map(|step| match step {
        PreTokenizerWrapper::ByteLevel(bytes) => Some(bytes.add_prefix_space),
        _ => None,
    });
    let settings = [
        ("add_bos_token", specials.add_bos, begins),
        ("add_prefix_space", specials.add_prefix_space, space),
    ];
    let differ = settings.into_iter().filter_map(|(key, said, done)| {
        let (said, done) = (said?, done?);
        (said != done).then(|| {
            let does = if done { "does so" } else { "does not" };
            format!(
                "tokenizer_config.json: `{key}` = {said} is not used, because tokenizer.json {does}; \
                 save the tokenizer again with transformers if that is wrong"
            )
        })
    });
    Ok(differ.collect())
}

fn missing(files: &Files) -> Error {
    let other = OTHERS.into_iter().find(|name| files.has(name));
    let directory = files.directory();
    let found = match other {
        Some(name) => format!("there is only {name}, which is not supported"),
        None => "there is no tokenizer.json, and no vocab.json with merges.txt".to_owned(),
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

/// The ids that the post-processor puts before every text, such as that of `<s>`.
pub(super) fn prefix(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    // Stands for a text in any vocabulary.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, "x".into(), (0, 1))], 0);
    let around = guarded(|| tokenizer.post_process(text, None, true))?;
    Ok(around.get_ids().iter().copied().take_while(|id| *id != TEXT).collect())
}

/// The ids of a text without added tokens; special tokens in the text are recognised.
pub(super) fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = guarded(|| tokenizer.encode_fast(text, false))?;
    Ok(encoding.get_ids().to_vec())
}

/// Takes spaces out that tokens leave before punctuation, as transformers does.
pub(super) fn cleaned(text: &str) -> String {
    const LEFT_OUT: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    LEFT_OUT.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The text of tokens, without special ones.
pub(super) fn text(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String> {
    guarded(|| tokenizer.decode(ids, true))
}

/// The tokens of a text with their offsets, without added tokens.
///
/// # Errors
/// Errors of the tokenizer library.
pub(super) fn encoding(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Encoding> {
    caught(|| tokenizer.encode(text, false)).unwrap_or_else(|| Err(IMPOSSIBLE.into()))
}

const IMPOSSIBLE: &str = "its tokenizer.json has settings that fail on a text";

/// Turns a panic of the tokenizer library, which a hostile file can cause, into an error.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|| Err(IMPOSSIBLE.into())).map_err(Error::Tokenizer)
}
