//! Special tokens without one of the usual roles: those of models with images or sound, and further ones.

use serde_json::{Map, Value};
use tokenizers::AddedToken;
use vxf_untrusted::{Account, some};

use super::specials::{MAP, ROLES, TOKENIZER, listed};

/// The keys of further special tokens; the second is that of older files.
const EXTRA: &str = "extra_special_tokens";
const ADDITIONAL: &str = "additional_special_tokens";

/// The key of a model's own special tokens by name.
const OF_MODEL: &str = "model_specific_special_tokens";

/// The further special tokens, as transformers reads them.
#[derive(Clone, Debug, Default)]
pub(super) struct Further {
    /// Tokens with a name, such as `image_token`, which chat templates can use.
    pub(super) named: Vec<(String, AddedToken)>,
    /// Tokens without a name.
    pub(super) unnamed: Vec<AddedToken>,
    /// What the user should know.
    pub(super) remarks: Vec<String>,
}

/// A file of settings, and the account of what was read.
#[derive(Clone, Copy)]
pub(super) struct SettingsFile<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) account: &'a Account<'a>,
}

impl Further {
    /// Reads them from `tokenizer_config.json` and, where transformers uses it (`map_counts`), from
    /// `special_tokens_map.json`. The texts of `known` tokens are in other files, too.
    pub(super) fn read(
        config: SettingsFile<'_>,
        map: SettingsFile<'_>,
        map_counts: bool,
        known: &[String],
    ) -> Self {
        let mut further = Self::default();
        further.read_named(config, map, map_counts, known);
        further.read_unnamed(config, map, map_counts, known);
        further
    }

    /// The order is that of transformers, and with it the ids of new tokens: first tokens that it finds
    /// late, then the texts on the top level, then those in a table.
    fn read_named(
        &mut self,
        config: SettingsFile<'_>,
        map: SettingsFile<'_>,
        map_counts: bool,
        known: &[String],
    ) {
        let own = config.own_tokens();
        let (texts, objects): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(key, _)| config.object[key].is_string());
        objects.into_iter().for_each(|(key, token)| self.put(key, token));
        if map_counts {
            map.own_tokens().into_iter().for_each(|(key, token)| self.put(key, token));
        }
        let mut explicit = texts;
        explicit.extend(self.table(TOKENIZER, config, EXTRA));
        let listed = self.table(TOKENIZER, config, OF_MODEL);
        if explicit.is_empty() {
            explicit = listed;
        } else {
            let kept = named_texts(&explicit);
            let lost = listed.into_iter().map(|(_, token)| token).collect();
            self.lost(&format!("{TOKENIZER}: `{OF_MODEL}`"), lost, &kept, "other keys");
        }
        explicit.into_iter().for_each(|(key, token)| self.put(key, token));
        let mapped = self.table(MAP, map, EXTRA);
        if map_counts {
            mapped.into_iter().for_each(|(key, token)| self.put(key, token));
        } else {
            let kept = [&named_texts(&self.named), known].concat();
            let lost = mapped.into_iter().map(|(_, token)| token).collect();
            self.lost(&format!("{MAP}: `{EXTRA}`"), lost, &kept, TOKENIZER);
        }
    }

    fn read_unnamed(
        &mut self,
        config: SettingsFile<'_>,
        map: SettingsFile<'_>,
        map_counts: bool,
        known: &[String],
    ) {
        let own = self.chosen(config, known);
        let lists = [EXTRA, ADDITIONAL].map(|key| self.list(MAP, map, key).unwrap_or_default());
        let [extra, additional] = &lists;
        let is_chosen = own.is_some() || !extra.is_empty();
        self.unnamed = own.unwrap_or_default();
        if map_counts {
            let own = texts(&self.unnamed);
            let new = extra.iter().filter(|token| !own.contains(&token.content));
            self.unnamed.extend(new.cloned());
            let instead = additional.iter().filter(|_| !is_chosen);
            self.unnamed.extend(instead.cloned());
        }
        let kept = [&texts(&self.unnamed), known].concat();
        for (key, tokens) in [EXTRA, ADDITIONAL].into_iter().zip(lists) {
            self.lost(&format!("{MAP}: `{key}`"), tokens, &kept, TOKENIZER);
        }
    }

    /// The list of `tokenizer_config.json`: of two, the newer key's, if it is not empty.
    fn chosen(&mut self, config: SettingsFile<'_>, known: &[String]) -> Option<Vec<AddedToken>> {
        let [extra, additional] = [EXTRA, ADDITIONAL].map(|key| self.list(TOKENIZER, config, key));
        let extra = match extra {
            Some(extra) if !extra.is_empty() => extra,
            extra => return additional.or(extra),
        };
        let (place, kept) =
            (format!("{TOKENIZER}: `{ADDITIONAL}`"), [&texts(&extra), known].concat());
        self.lost(&place, additional.unwrap_or_default(), &kept, &format!("`{EXTRA}`"));
        Some(extra)
    }

    /// As in a table of Python, a later token of the same name takes the place of the earlier one.
    fn put(&mut self, key: String, token: AddedToken) {
        let token = token.special(true);
        match self.named.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = token,
            None => self.named.push((key, token)),
        }
    }

    /// The tokens of a list; `None` if the file has none.
    fn list(
        &mut self,
        file: &str,
        settings: SettingsFile<'_>,
        key: &str,
    ) -> Option<Vec<AddedToken>> {
        let value = settings.account.get(key)?;
        if !(value.is_array() || value.is_object() || value.is_null()) {
            self.remarks.push(format!("{file}: `{key}` = {value} is no list of tokens"));
        }
        let all = value.as_array()?.iter();
        Some(all.filter_map(|value| self.token(file, key, value)).collect())
    }

    /// The tokens of a table by name.
    fn table(
        &mut self,
        file: &str,
        settings: SettingsFile<'_>,
        key: &str,
    ) -> Vec<(String, AddedToken)> {
        let all = settings.account.get(key).and_then(Value::as_object).into_iter().flatten();
        let token =
            |(name, value): (&String, &Value)| Some((name.clone(), self.token(file, key, value)?));
        all.filter_map(token).collect()
    }

    fn token(&mut self, file: &str, key: &str, value: &Value) -> Option<AddedToken> {
        let token = listed(value);
        if token.is_none() {
            let remark = format!("{file}: `{key}` has {value}, which is no token, and is left out");
            self.remarks.push(remark);
        }
        token
    }

    /// Remarks upon tokens that transformers does not use, unless they are also elsewhere.
    fn lost(&mut self, place: &str, tokens: Vec<AddedToken>, kept: &[String], used: &str) {
        let lost: Vec<_> = tokens
            .into_iter()
            .map(|token| token.content)
            .filter(|text| !kept.contains(text))
            .collect();
        if !lost.is_empty() {
            let lost = some(&lost);
            self.remarks
                .push(format!("{place} has {lost}; those of {used} are used, as in transformers"));
        }
    }
}

impl SettingsFile<'_> {
    /// The tokens on the top level whose key is not that of a role.
    fn own_tokens(self) -> Vec<(String, AddedToken)> {
        let own = self.object.iter().filter_map(|(key, value)| {
            let own = key.ends_with("_token") && !ROLES.contains(&key.as_str());
            let token = listed(value).filter(|_| own)?;
            // It counts as read.
            self.account.get(key);
            Some((key.clone(), token))
        });
        own.collect()
    }
}

fn texts(tokens: &[AddedToken]) -> Vec<String> {
    tokens.iter().map(|token| token.content.clone()).collect()
}

fn named_texts(tokens: &[(String, AddedToken)]) -> Vec<String> {
    tokens.iter().map(|(_, token)| token.content.clone()).collect()
}
