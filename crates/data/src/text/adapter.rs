//! The tokenizer files that PEFT saves beside an adapter.

use std::collections::BTreeSet;
use std::path::Path;

use tokenizers::Tokenizer;

use super::chat;
use super::files::Files;
use super::specials::Specials;
use super::tokenize;
use crate::Result;

/// The files of a tokenizer, in order of their importance.
const FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// A remark, if the directory of an adapter has tokenizer files whose tokens or chat template are not
/// those of its base model in `base`: users of transformers load the tokenizer from there, but the
/// base's is used here.
///
/// # Errors
/// When files of the base are missing or damaged.
pub fn other_tokenizer(base: &Path, adapter: &Path) -> Result<Option<String>> {
    let bytes = |directory: &Path, name: &str| std::fs::read(directory.join(name)).ok();
    let own: Vec<_> = FILES.into_iter().filter(|name| adapter.join(name).is_file()).collect();
    if own.iter().all(|name| bytes(adapter, name) == bytes(base, name)) {
        return Ok(None);
    }
    let differ = match Parts::read(adapter, own.contains(&FILES[0])) {
        Ok(own) => own.differences(&Parts::read(base, true)?),
        Err(error) => vec![format!("they cannot be read: {error}")],
    };
    Ok((!differ.is_empty()).then(|| {
        format!(
            "{}: the tokenizer files beside the adapter are not used, but those of its base, which \
             differ ({}); if the adapter was trained with its own, copy them into a copy of the base",
            adapter.display(),
            differ.join("; ")
        )
    }))
}

/// What can differ.
struct Parts {
    specials: Specials,
    chat: Option<String>,
    tokenizer: Option<Tokenizer>,
}

impl Parts {
    fn read(directory: &Path, with_tokenizer: bool) -> Result<Self> {
        let mut files = Files::of(directory)?;
        let mut specials = Specials::read(&mut files)?;
        let chat = chat::source(&mut files, &specials)?;
        let tokenizer = match with_tokenizer {
            true => Some(tokenize::load(&mut files, &mut specials)?),
            false => None,
        };
        // As Jinja reads it.
        let read = |source: String| {
            let source = source.replace("\r\n", "\n");
            source.strip_suffix('\n').map_or(source.clone(), str::to_owned)
        };
        Ok(Self { chat: chat.map(|(source, _)| read(source)), specials, tokenizer })
    }

    /// In what an adapter's files differ from those of its base; what they lack is the base's.
    fn differences(&self, base: &Self) -> Vec<String> {
        let mut differ = Vec::new();
        if self.chat.is_some() && self.chat != base.chat {
            differ.push("the chat template".to_owned());
        }
        let (own, other) = (self.added(), base.added());
        // Without a tokenizer.json, they name only what was added.
        let lost = self.tokenizer.is_some().then(|| other.difference(&own)).into_iter().flatten();
        let tokens: BTreeSet<_> = own.difference(&other).chain(lost).collect();
        if !tokens.is_empty() {
            let tokens: Vec<_> = tokens.into_iter().map(|(_, text)| text.clone()).collect();
            differ.push(format!("the added tokens {}", vxf_untrusted::some(&tokens)));
        }
        if let (Some(own), Some(other)) = (&self.tokenizer, &base.tokenizer)
            && own.get_vocab(false) != other.get_vocab(false)
        {
            differ.push("the vocabulary".to_owned());
        }
        // The padding token changes nothing here.
        for role in ["bos_token", "eos_token", "unk_token"] {
            let (own, other) = (self.specials.text(role), base.specials.text(role));
            if let Some(own) = own.filter(|own| Some(*own) != other) {
                let other = other.map_or("none".to_owned(), |other| format!("`{other}`"));
                differ.push(format!("`{role}` is `{own}`, of the base {other}"));
            }
        }
        differ
    }

    /// Added tokens, with their ids.
    fn added(&self) -> BTreeSet<(u32, String)> {
        let Some(tokenizer) = &self.tokenizer else {
            let added = self.specials.added.iter();
            return added.map(|(id, added)| (*id, added.token.content.clone())).collect();
        };
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        added.map(|(id, token)| (id, token.content)).collect()
    }
}
