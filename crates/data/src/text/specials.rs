//! Special tokens in the files of a model directory.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;
use vxf_untrusted::{Account, not_used};

use super::TextError;
use super::files::Files;
use super::further::{Further, SettingsFile};
use super::generation::{self, Generation, Longest};
use crate::Result;

/// The roles of special tokens in Hugging Face files; chat templates use these names. In this order
/// transformers adds them, so new ones get their ids in it.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The files with special tokens.
pub(super) const TOKENIZER: &str = "tokenizer_config.json";
pub(super) const MAP: &str = "special_tokens_map.json";
/// The files with settings of answers, the newer one first.
const GENERATION: &str = "generation_config.json";
const CONFIG: &str = "config.json";

/// Keys of `tokenizer_config.json` that do not change the tokens of a text.
///
/// Those that describe how transformers loads or batches, and those that `tokenizer.json` has too.
const HARMLESS: [&str; 33] = [
    "add_eos_token",
    "additional_chat_templates",
    "auto_map",
    "backend",
    "device_map",
    "do_lower_case",
    "errors",
    "from_slow",
    "is_local",
    "local_files_only",
    "max_length",
    "model_input_names",
    "model_max_length",
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

/// A token that a file beside `tokenizer.json` adds.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) token: AddedToken,
    /// Whether the file has its flags too, not only its text; they win over those of `tokenizer.json`,
    /// as in transformers.
    pub(super) flagged: bool,
}

/// For which tokenizers spaces before punctuation are taken out of decoded texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CleanUp {
    /// For none.
    #[default]
    No,
    /// For all but BPE, whose spaces are those of the text.
    NotBpe,
    /// For all.
    All,
}

/// Special tokens by role, and settings of the tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Specials {
    /// Tokens by role, for chat templates.
    pub(super) named: BTreeMap<&'static str, AddedToken>,
    /// Tokens of `added_tokens.json` and `added_tokens_decoder`, by id.
    pub(super) added: BTreeMap<u32, Added>,
    /// Special tokens without such a role.
    pub(super) further: Further,
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
    /// The setting `legacy`, which only `LlamaTokenizer` has.
    pub(super) legacy: bool,
    /// Whether spaces before punctuation are taken out of decoded texts.
    pub(super) clean_up: CleanUp,
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
        let [tokenizer, map, generation] =
            [TOKENIZER, MAP, GENERATION].map(|name| files.object(name));
        let (tokenizer_file, map_file, generation) = (tokenizer?, map?, generation?);
        let (tokenizer, map) = (Account::of(&tokenizer_file), Account::of(&map_file));
        let generation = Account::of(&generation);
        let config = files.json(CONFIG)?;
        let added = files.json("added_tokens.json")?;

        let class = get(&tokenizer, "tokenizer_class");
        let class = class.as_str().unwrap_or_default();
        let mut specials = Self {
            add_bos: get(&tokenizer, "add_bos_token").as_bool(),
            add_prefix_space: get(&tokenizer, "add_prefix_space").as_bool(),
            chat_template: get(&tokenizer, "chat_template"),
            class: class.strip_suffix("Fast").unwrap_or(class).to_owned(),
            legacy: get(&tokenizer, "legacy").as_bool().unwrap_or(false),
            clean_up: CleanUp::read(&tokenizer),
            model_type: config["model_type"].as_str().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        specials.read_ends(&generation, &config);
        let decoder = get(&tokenizer, "added_tokens_decoder");
        // transformers reads the map only where there is no `added_tokens_decoder`, and then it wins.
        let map_wins = decoder.is_null();
        specials.read_roles(&tokenizer, &map, map_wins);
        let decoder: Vec<_> = decoder.as_object().into_iter().flatten().collect();
        let texts = decoder.iter().filter_map(|(_, value)| token(value));
        let texts: Vec<_> = texts.map(|token| token.content).collect();
        let settings = |object, account| SettingsFile { object, account };
        specials.further = Further::read(
            settings(&tokenizer_file, &tokenizer),
            settings(&map_file, &map),
            map_wins,
            &texts,
        );
        specials.remarks.append(&mut specials.further.remarks);
        // A table of a model's own tokens may name a role, too.
        for (name, token) in &specials.further.named {
            if let Some(role) = ROLES.into_iter().find(|role| role == name) {
                specials.named.insert(role, token.clone());
            }
        }
        specials.read_added(&added, decoder);
        if get(&tokenizer, "split_special_tokens") == Value::Bool(true) {
            let problem = "`split_special_tokens` = true is not supported; set it to false";
            return Err(TextError::file(&files.path(TOKENIZER), problem));
        }
        // Older models have these settings in the configuration.
        let of_model = config.as_object().cloned().unwrap_or_default();
        let of_model = Account::of(&of_model);
        let (from, settings) = match files.has(GENERATION) {
            true => (GENERATION, &generation),
            false => (CONFIG, &of_model),
        };
        specials
            .read_generation(from, settings)
            .map_err(|problem| TextError::file(&files.path(from), problem))?;
        specials.remarks.extend(not_used(TOKENIZER, &tokenizer.unread(&HARMLESS)));
        specials.remarks.extend(not_used(MAP, &map.unread(&[])));
        specials.remarks.extend(not_used(GENERATION, &generation.unread(&generation::HARMLESS)));
        Ok(specials)
    }

    /// The ids that end an answer.
    fn read_ends(&mut self, generation: &Account<'_>, config: &Value) {
        let places = [
            (GENERATION, get(generation, "eos_token_id")),
            (CONFIG, config["eos_token_id"].clone()),
        ];
        self.ends = places.iter().find_map(|(_, value)| ids(value)).unwrap_or_default();
        for (file, value) in places {
            let all = value.as_array().map_or(1, Vec::len);
            if !value.is_null() && ids(&value).is_none_or(|ids| ids.len() < all) {
                self.remarks.push(format!(
                    "{file}: `eos_token_id` = {value} is not an id, or a list of ids; what is none \
                     ends no answer"
                ));
            }
        }
    }

    /// The tokens with a role, of which two files may say different things.
    fn read_roles(&mut self, tokenizer: &Account<'_>, map: &Account<'_>, map_wins: bool) {
        for role in ROLES {
            let [own, mapped] = [(TOKENIZER, tokenizer), (MAP, map)].map(|(file, account)| {
                let value = get(account, role);
                let found = token(&value);
                // These say that there is no such token.
                let none = [Value::Null, Value::Bool(false), Value::from("")].contains(&value);
                if found.is_none() && !none {
                    let remark = format!("{file}: `{role}` = {value} is no token, and is left out");
                    self.remarks.push(remark);
                }
                found
            });
            if let (Some(own), Some(mapped)) = (&own, &mapped)
                && own.content != mapped.content
            {
                let used = if map_wins { MAP } else { TOKENIZER };
                self.remarks.push(format!(
                    "{TOKENIZER} has `{role}` = {:?}, but {MAP} has {:?}; that of {used} is used, \
                     as in transformers",
                    own.content, mapped.content
                ));
            }
            let chosen = if map_wins { mapped.or(own) } else { own.or(mapped) };
            self.named.extend(chosen.map(|token| (role, token)));
        }
    }

    /// The tokens with an id: those of `added_tokens.json`, then those of `added_tokens_decoder`, which
    /// replace them.
    fn read_added(&mut self, added: &Value, decoder: Vec<(&String, &Value)>) {
        for (text, id) in added.as_object().into_iter().flatten() {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                let token = AddedToken::from(text.as_str(), self.is_special(text));
                self.added.insert(id, Added { token, flagged: false });
            }
        }
        for (id, value) in decoder {
            let (Ok(id), Some(token)) = (id.parse(), listed(value)) else {
                self.remarks.push(format!(
                    "{TOKENIZER}: `added_tokens_decoder` has `{id}`: {value}, which is no token with \
                     its number, and is left out"
                ));
                continue;
            };
            let token = if value.is_object() { token } else { token.special(false) };
            self.added.insert(id, Added { token, flagged: value.is_object() });
        }
    }

    /// How answers are generated, by the `settings` of the file `from`.
    ///
    /// # Errors
    /// Names a setting that would change greedy answers and is not supported.
    fn read_generation(&mut self, from: &str, settings: &Account<'_>) -> Result<(), String> {
        self.generation = Generation::read(settings)?;
        self.longest = Longest::read(from, settings);
        let beams = settings.get("num_beams").and_then(Value::as_u64).filter(|beams| *beams > 1);
        self.remarks.extend(beams.map(|beams| {
            format!(
                "{from}: `num_beams` = {beams} is not used: answers are one beam, greedy or drawn"
            )
        }));
        let number = |key: &str| settings.get(key).and_then(Value::as_f64);
        let draws = settings.get("do_sample") == Some(&Value::Bool(true));
        let penalty = number("penalty_alpha").filter(|penalty| *penalty > 0.0 && !draws);
        let several = number("top_k").filter(|several| *several > 1.0);
        self.remarks.extend(penalty.zip(several).map(|(penalty, several)| {
            format!(
                "{from}: `penalty_alpha` = {penalty} with `top_k` = {several} (contrastive search) is \
                 not used: answers are greedy or drawn"
            )
        }));
        Ok(())
    }

    /// The tokens with a role or a name, in the order in which transformers adds them.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &AddedToken> {
        let roles = ROLES.into_iter().filter_map(|role| self.named.get(role));
        roles.chain(self.further.named.iter().map(|(_, token)| token))
    }

    /// Whether a text is that of a special token.
    pub(super) fn is_special(&self, text: &str) -> bool {
        self.in_order().chain(&self.further.unnamed).any(|token| token.content == text)
    }

    /// The text of the token with this role.
    pub(super) fn text(&self, role: &str) -> Option<&str> {
        self.named.get(role).map(|token| token.content.as_str())
    }
}

impl CleanUp {
    fn read(config: &Account<'_>) -> Self {
        let is_set = |key: &str| config.get(key) == Some(&Value::Bool(true));
        // Both are read, whatever the first says.
        let (wanted, even_bpe) = (
            is_set("clean_up_tokenization_spaces"),
            is_set("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"),
        );
        match (wanted, even_bpe) {
            (false, _) => Self::No,
            (true, false) => Self::NotBpe,
            (true, true) => Self::All,
        }
    }
}

/// A setting, which counts as read; `null` if there is none.
fn get(account: &Account<'_>, key: &str) -> Value {
    account.get(key).cloned().unwrap_or_default()
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

/// A token of a list, which is special unless its flags say otherwise.
pub(super) fn listed(value: &Value) -> Option<AddedToken> {
    let read = token(value)?;
    if !value.is_object() {
        return Some(read);
    }
    let special = value["special"].as_bool().unwrap_or(false);
    let normalized = value["normalized"].as_bool().unwrap_or(!special);
    Some(read.special(special).normalized(normalized))
}
