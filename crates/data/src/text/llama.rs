//! Where transformers 5 does not split a text as the `tokenizer.json` of a Llama model says.

use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::specials::Specials;
use super::tokenize::ids;
use crate::{Error, Result};

/// The classes that have their own splitting, with the endings cut off.
const CLASSES: [&str; 2] = ["LlamaTokenizer", "CodeLlamaTokenizer"];

/// Model types for which transformers 5.24 uses `tokenizer.json` as it is, whatever the class.
const AS_IT_IS: [&str; 15] = [
    "internlm2",
    "internlm3",
    "jamba",
    "llava",
    "minicpm3",
    "ministral",
    "ministral3",
    "mistral",
    "mistral3",
    "mixtral",
    "nemotron",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen3_5",
];

/// A remark, if transformers 5 would give other tokens, because it reads only the vocabulary of the file
/// and splits texts by `tokenizer_class` and `legacy`.
///
/// The file is used as it is: that is what transformers 4 did, with which such models were trained.
pub(super) fn otherwise(tokenizer: &Tokenizer, specials: &Specials) -> Result<Option<String>> {
    let class = specials.class.as_str();
    let as_it_is = AS_IT_IS.contains(&specials.model_type.as_str());
    if !CLASSES.contains(&class) || as_it_is || has_bytes(tokenizer) {
        return Ok(None);
    }
    let legacy = specials.legacy && class == CLASSES[0];
    let (scheme, puts) = match (specials.add_prefix_space, legacy) {
        (Some(false), _) => (PrependScheme::Never, "no space before a text"),
        (_, true) => (PrependScheme::Always, "one space at the start and after a special token"),
        (_, false) => {
            (PrependScheme::First, "a space only at the start, none after a special token")
        }
    };
    let does = match tokenizer.get_model() {
        ModelWrapper::BPE(_) if !differs(tokenizer, specials, scheme)? => return Ok(None),
        ModelWrapper::BPE(_) => format!("puts {puts}"),
        _ => "reads the vocabulary as that of BPE".to_owned(),
    };
    Ok(Some(format!(
        "tokenizer.json is used as it is; transformers 5 does not split texts as it says, but as \
         `tokenizer_class` = {class} with `legacy` = {}: it {does}. For the same tokens there, set \
         `tokenizer_class` to PreTrainedTokenizerFast in tokenizer_config.json",
        specials.legacy
    )))
}

/// Whether the tokens of some texts are others if spaces are put before them by `scheme`.
fn differs(tokenizer: &Tokenizer, specials: &Specials, scheme: PrependScheme) -> Result<bool> {
    let mut other = tokenizer.clone();
    other.with_normalizer(None::<NormalizerWrapper>).map_err(Error::Tokenizer)?;
    other.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    let special = specials.in_order().next().map_or("", |token| token.content.as_str());
    for text in ["a".to_owned(), " a".to_owned(), format!("a{special}a"), format!("{special} a")] {
        if ids(tokenizer, &text)? != ids(&other, &text)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it splits texts into bytes; transformers then uses it as it is.
fn has_bytes(tokenizer: &Tokenizer) -> bool {
    let is_bytes = |step: &PreTokenizerWrapper| matches!(step, PreTokenizerWrapper::ByteLevel(_));
    match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::Sequence(steps)) => steps.as_ref().iter().any(is_bytes),
        Some(step) => is_bytes(step),
        None => false,
    }
}
