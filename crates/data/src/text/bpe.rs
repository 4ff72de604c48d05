//! A byte-level BPE tokenizer from the `vocab.json` and `merges.txt` of GPT-2 and OPT.

use std::collections::HashMap;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::{SpecialToken, Template, TemplateProcessing};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};
use vxf_untrusted::caught;

use super::TextError;
use super::files::Files;
use super::specials::Specials;
use crate::{Error, Result};

/// The largest valid token id; no vocabulary is that large.
const HIGHEST_ID: u64 = 1 << 30;

/// The special token of GPT-2, used if no file names one.
const GPT2: &str = "<|endoftext|>";

/// How a text is split before bytes are merged.
enum Splitting {
    /// As GPT-2 and OPT.
    Gpt2,
    /// As Qwen 2 and 3.
    Qwen2,
}

/// The pieces of Qwen's tokenizers.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The splitting of the tokenizer's class, or of the model's family if no class is given.
fn splitting(specials: &Specials) -> Option<Splitting> {
    match (specials.class.as_str(), specials.model_type.as_str()) {
        ("GPT2Tokenizer", _) => Some(Splitting::Gpt2),
        ("Qwen2Tokenizer", _) | ("", "qwen2" | "qwen3") => Some(Splitting::Qwen2),
        ("", "opt" | "gpt2" | "") => Some(Splitting::Gpt2),
        _ => None,
    }
}

/// Builds the tokenizer that `transformers` builds for `GPT2Tokenizer`, without the tokens that other
/// files than the vocabulary name.
///
/// # Errors
/// When a file is damaged.
pub(super) fn build(files: &mut Files, specials: &Specials) -> Result<Tokenizer> {
    let (vocabulary, merges) = (files.path("vocab.json"), files.path("merges.txt"));
    let broken = |error| TextError::file(&vocabulary, format!("does not fit merges.txt: {error}"));
    // The library reads whole files without a bound, so their sizes are checked here.
    files.text("merges.txt")?;
    // The library truncates ids to 32 bits and allocates up to the highest.
    let text = files.text("vocab.json")?.unwrap_or_default();
    let ids: HashMap<String, u64> = serde_json::from_str(&text).unwrap_or_default();
    if let Some((token, id)) = ids.iter().find(|(_, id)| **id > HIGHEST_ID) {
        let problem = format!("the token {token:?} has id {id}, above the limit {HIGHEST_ID}");
        return Err(TextError::file(&vocabulary, problem));
    }
    let model = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy());
    let built = caught(|| model.build()).unwrap_or_else(|| Err("its parts do not fit".into()));
    let mut tokenizer = Tokenizer::new(built.map_err(broken)?);
    let space = specials.add_prefix_space.unwrap_or(false);
    match splitting(specials) {
        Some(Splitting::Gpt2) => {
            let bytes = ByteLevel::new(space, true, true);
            tokenizer.with_pre_tokenizer(Some(bytes));
            tokenizer.with_decoder(Some(bytes));
        }
        Some(Splitting::Qwen2) => {
            let pattern = SplitPattern::Regex(QWEN2.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            let bytes = ByteLevel::new(space, true, false);
            let steps = vec![split.map_err(Error::Tokenizer)?.into(), bytes.into()];
            tokenizer.with_normalizer(Some(NFC)).map_err(Error::Tokenizer)?;
            tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
            tokenizer.with_decoder(Some(bytes));
        }
        None => {
            let name = files.directory().display();
            let class = &specials.class;
            let problem = format!(
                "how `tokenizer_class` = {class:?} splits a text is not known; make tokenizer.json \
                 with transformers: python -c \"from transformers import AutoTokenizer as T; \
                 T.from_pretrained('{name}').save_pretrained('{name}')\""
            );
            return Err(TextError::file(files.directory(), problem));
        }
    }
    if specials.named.is_empty() && tokenizer.token_to_id(GPT2).is_some() {
        tokenizer.add_special_tokens([AddedToken::from(GPT2, true)]).map_err(Error::Tokenizer)?;
    }
    Ok(tokenizer)
}

/// Lets a text begin with `bos_token` if `add_bos_token` is set in `tokenizer_config.json`; without that
/// setting, only for OPT.
///
/// # Errors
/// When there is no such token.
pub(super) fn begin(tokenizer: &mut Tokenizer, files: &Files, specials: &Specials) -> Result<()> {
    if specials.add_bos.unwrap_or(specials.model_type == "opt") {
        let bos = specials.text("bos_token").unwrap_or(GPT2);
        let id = tokenizer.token_to_id(bos).ok_or_else(|| {
            let problem = format!(
                "texts begin with `{bos}` (add_bos_token), but vocab.json does not contain it; set \
                 `bos_token` in tokenizer_config.json"
            );
            TextError::file(files.directory(), problem)
        })?;
        tokenizer.with_post_processor(Some(before(bos, id)?));
    }
    Ok(())
}

/// A post-processor that puts one token before every text.
fn before(token: &str, id: u32) -> Result<TemplateProcessing> {
    let failed = |error: String| Error::Tokenizer(error.into());
    let single = vec![token.to_owned(), "$A".to_owned()];
    TemplateProcessing::builder()
        .single(Template::try_from(single).map_err(failed)?)
        .special_tokens(vec![SpecialToken::from((token.to_owned(), id))])
        .build()
        .map_err(|error| failed(error.to_string()))
}
