//! Special tokens in the files of a model directory.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;

use super::files::Files;
use crate::Result;

/// The roles of special tokens in Hugging Face files; chat templates use these names.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// Special tokens by role, and settings of the tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Specials {
    /// Tokens by role, for chat templates.
    pub(super) named: BTreeMap<&'static str, AddedToken>,
    /// Added tokens beyond the vocabulary, by id.
    pub(super) added: BTreeMap<u32, AddedToken>,
    /// Whether a text begins with `bos_token`, for models without `tokenizer.json`.
    pub(super) add_bos: Option<bool>,
    /// Whether a space is put before a text.
    pub(super) add_prefix_space: bool,
    /// Ids that end an answer, from `generation_config.json` or `config.json`.
    pub(super) ends: Vec<u32>,
    /// The entry `chat_template`: a text, or a list of named templates.
    pub(super) chat_template: Value,
    /// The `model_type` of `config.json`.
    pub(super) model_type: String,
}

impl Specials {
    /// Reads all files with such settings; every file is optional.
    pub(super) fn read(files: &mut Files) -> Result<Self> {
        let tokenizer = files.json("tokenizer_config.json")?;
        let map = files.json("special_tokens_map.json")?;
        let generation = files.json("generation_config.json")?;
        let config = files.json("config.json")?;
        let added = files.json("added_tokens.json")?;

        let mut specials = Self {
            add_bos: tokenizer["add_bos_token"].as_bool(),
            add_prefix_space: tokenizer["add_prefix_space"].as_bool().unwrap_or(false),
            ends: ids(&generation["eos_token_id"])
                .or_else(|| ids(&config["eos_token_id"]))
                .unwrap_or_default(),
            chat_template: tokenizer["chat_template"].clone(),
            model_type: config["model_type"].as_str().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for role in ROLES {
            if let Some(token) = token(&tokenizer[role]).or_else(|| token(&map[role])) {
                specials.named.insert(role, token);
            }
        }
        for (text, id) in added.as_object().into_iter().flatten() {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                specials.added.insert(id, AddedToken::from(text.as_str(), false));
            }
        }
        for (id, value) in tokenizer["added_tokens_decoder"].as_object().into_iter().flatten() {
            if let (Ok(id), Some(read)) = (id.parse(), token(value)) {
                let special = value["special"].as_bool().unwrap_or(false);
                specials.added.insert(id, read.special(special));
            }
        }
        Ok(specials)
    }

    /// The text of the token with this role.
    pub(super) fn text(&self, role: &str) -> Option<&str> {
        self.named.get(role).map(|token| token.content.as_str())
    }
}

/// A number or a list of numbers.
fn ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(all) => Some(all.iter().filter_map(id).collect()),
        one => id(one).map(|id| vec![id]),
    }
}

/// A special token, given as a text or as an object.
fn token(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str, otherwise: bool| value[key].as_bool().unwrap_or(otherwise);
    let content = value.as_str().or_else(|| value["content"].as_str())?;
    let token = AddedToken::from(content, true)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(flag("normalized", false));
    (!content.is_empty()).then_some(token)
}
