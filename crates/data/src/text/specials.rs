//! Special tokens in the files of a model directory.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;
use vxf_untrusted::{Account, not_used, some};

use super::TextError;
use super::files::Files;
use super::generation::{self, Generation, Longest};
use crate::Result;

/// The roles of special tokens in Hugging Face files; chat templates use these names.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// The key of further special tokens.
const ADDITIONAL: &str = "additional_special_tokens";

/// Keys of `tokenizer_config.json` that do not change the tokens of a text.
///
/// Those that describe how transformers loads or batches, and those that `tokenizer.json` has too.
const HARMLESS: [&str; 42] = [
    "add_eos_token",
    "additional_chat_templates",
    "audio_bos_token",
    "auto_map",
    "backend",
    "boi_token",
    "clean_up_tokenization_spaces",
    "cls_token",
    "device_map",
    "do_lower_case",
    "eoi_token",
    "errors",
    "extra_special_tokens",
    "from_slow",
    "image_token",
    "is_local",
    "legacy",
    "local_files_only",
    "max_length",
    "model_input_names",
    "model_max_length",
    "model_specific_special_tokens",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding_side",
    "processor_class",
    "return_token_type_ids",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "special_tokens_map_file",
    "stride",
    "tokenizer_file",
    "trim_offsets",
    "truncation",
    "truncation_side",
    "truncation_strategy",
    "unk_id",
    "use_default_system_prompt",
    "use_fast",
    "vocab_file",
    "vocab_size",
];

/// Special tokens that models with images or sound name on the top level.
const MODEL_TOKENS: [&str; 4] = ["audio_bos_token", "boi_token", "eoi_token", "image_token"];

/// A token that a file beside `tokenizer.json` adds.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) token: AddedToken,
    /// Whether the file has its flags too, not only its text; they win over those of `tokenizer.json`,
    /// as in transformers.
    pub(super) flagged: bool,
}

/// Special tokens by role, and settings of the tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Specials {
    /// Tokens by role, for chat templates.
    pub(super) named: BTreeMap<&'static str, AddedToken>,
    /// Tokens of `added_tokens.json` and `added_tokens_decoder`, by id.
    pub(super) added: BTreeMap<u32, Added>,
    /// Further special tokens, which get the next ids if the vocabulary lacks them.
    pub(super) additional: Vec<AddedToken>,
    /// Whether a text begins with `bos_token`; `tokenizer.json` decides where there is one.
    pub(super) add_bos: Option<bool>,
    /// Whether a space is put before a text; as above.
    pub(super) add_prefix_space: Option<bool>,
    /// Ids that end an answer, from `generation_config.json` or `config.json`.
    pub(super) ends: Vec<u32>,
    /// The entry `chat_template`: a text, or a list of named templates.
    pub(super) chat_template: Value,
    /// The `tokenizer_class`, without the ending `Fast`.
    pub(super) class: String,
    /// The `model_type` of `config.json`.
    pub(super) model_type: String,
    /// What `generation_config.json` changes in greedy decoding.
    pub(super) generation: Generation,
    /// The longest answer by `generation_config.json`.
    pub(super) longest: Option<Longest>,
    /// What the user should know about the files.
    pub(super) remarks: Vec<String>,
}

impl Specials {
    /// Reads all files with such settings; every file is optional.
    pub(super) fn read(files: &mut Files) -> Result<Self> {
        const TOKENIZER: &str = "tokenizer_config.json";
        const MAP: &str = "special_tokens_map.json";
        const GENERATION: &str = "generation_config.json";
        let [tokenizer, map, generation] =
            [TOKENIZER, MAP, GENERATION].map(|name| files.object(name));
        let (tokenizer, map, generation) = (tokenizer?, map?, generation?);
        let (tokenizer, map) = (Account::of(&tokenizer), Account::of(&map));
        let generation = Account::of(&generation);
        let config = files.json("config.json")?;
        let added = files.json("added_tokens.json")?;
        let get = |account: &Account<'_>, key: &str| account.get(key).cloned().unwrap_or_default();

        let class = get(&tokenizer, "tokenizer_class");
        let class = class.as_str().unwrap_or_default();
        let mut specials = Self {
            add_bos: get(&tokenizer, "add_bos_token").as_bool(),
            add_prefix_space: get(&tokenizer, "add_prefix_space").as_bool(),
            ends: ids(&get(&generation, "eos_token_id"))
                .or_else(|| ids(&config["eos_token_id"]))
                .unwrap_or_default(),
            chat_template: get(&tokenizer, "chat_template"),
            class: class.strip_suffix("Fast").unwrap_or(class).to_owned(),
            model_type: config["model_type"].as_str().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        // transformers reads the map only where there is no `added_tokens_decoder`, and then it wins.
        let map_wins = get(&tokenizer, "added_tokens_decoder").is_null();
        for (file, value) in [
            (GENERATION, &get(&generation, "eos_token_id")),
            ("config.json", &config["eos_token_id"]),
        ] {
            let all = value.as_array().map_or(1, Vec::len);
            if !value.is_null() && ids(value).is_none_or(|ids| ids.len() < all) {
                specials.remarks.push(format!(
                    "{file}: `eos_token_id` = {value} is not an id, or a list of ids; what is none \
                     ends no answer"
                ));
            }
        }
        for role in ROLES {
            let (own, mapped) = (token(&get(&tokenizer, role)), token(&get(&map, role)));
            if let (Some(own), Some(mapped)) = (&own, &mapped)
                && own.content != mapped.content
            {
                let used = if map_wins { MAP } else { TOKENIZER };
                specials.remarks.push(format!(
                    "{TOKENIZER} has `{role}` = {:?}, but {MAP} has {:?}; that of {used} is used, \
                     as in transformers",
                    own.content, mapped.content
                ));
            }
            let chosen = if map_wins { mapped.or(own) } else { own.or(mapped) };
            specials.named.extend(chosen.map(|token| (role, token)));
        }
        let list = |account| -> Vec<AddedToken> {
            get(account, ADDITIONAL).as_array().into_iter().flatten().filter_map(token).collect()
        };
        let (own, mapped) = (list(&tokenizer), list(&map));
        let texts = |list: &[AddedToken]| -> Vec<String> {
            list.iter().map(|token| token.content.clone()).collect()
        };
        let (own_texts, mapped_texts) = (texts(&own), texts(&mapped));
        if !own.is_empty() && mapped_texts.iter().any(|text| !own_texts.contains(text)) {
            specials.remarks.push(format!(
                "{TOKENIZER} has `{ADDITIONAL}` {}, but {MAP} has {}; those of {TOKENIZER} are used",
                some(&own_texts),
                some(&mapped_texts)
            ));
        }
        specials.additional.extend(if own.is_empty() { mapped } else { own });
        // Names of a model's own: a list, or a table by role. Some stand on the top level.
        for key in ["extra_special_tokens", "model_specific_special_tokens"] {
            let own = get(&tokenizer, key);
            let list = own.as_array().into_iter().flatten();
            let table = own.as_object().into_iter().flat_map(|table| table.values());
            specials.additional.extend(list.chain(table).filter_map(token));
        }
        for key in MODEL_TOKENS {
            specials.additional.extend(token(&get(&tokenizer, key)));
        }
        for (text, id) in added.as_object().into_iter().flatten() {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                let token = AddedToken::from(text.as_str(), false);
                specials.added.insert(id, Added { token, flagged: false });
            }
        }
        let decoder = get(&tokenizer, "added_tokens_decoder");
        for (id, value) in decoder.as_object().into_iter().flatten() {
            if let (Ok(id), Some(read)) = (id.parse(), token(value)) {
                let special = value["special"].as_bool().unwrap_or(false);
                let normalized = value["normalized"].as_bool().unwrap_or(!special);
                let token = read.special(special).normalized(normalized);
                specials.added.insert(id, Added { token, flagged: value.is_object() });
            }
        }
        if get(&tokenizer, "split_special_tokens") == Value::Bool(true) {
            let problem = "`split_special_tokens` = true is not supported; set it to false";
            return Err(TextError::file(&files.path(TOKENIZER), problem));
        }
        // Older models have these settings in the configuration.
        let of_model = config.as_object().cloned().unwrap_or_default();
        let of_model = Account::of(&of_model);
        let (from, settings) = match files.has(GENERATION) {
            true => (GENERATION, &generation),
            false => ("config.json", &of_model),
        };
        specials.generation = Generation::read(settings)
            .map_err(|problem| TextError::file(&files.path(from), problem))?;
        specials.longest = Longest::read(from, settings);
        let beams = settings.get("num_beams").and_then(Value::as_u64).filter(|beams| *beams > 1);
        specials.remarks.extend(beams.map(|beams| {
            format!(
                "{from}: `num_beams` = {beams} is not used: answers are one beam, greedy or drawn"
            )
        }));
        specials.remarks.extend(not_used(TOKENIZER, &tokenizer.unread(&HARMLESS)));
        specials.remarks.extend(not_used(MAP, &map.unread(&[])));
        specials.remarks.extend(not_used(GENERATION, &generation.unread(&generation::HARMLESS)));
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
