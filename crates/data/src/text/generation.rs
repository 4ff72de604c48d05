//! What `generation_config.json` changes in greedy decoding, as transformers does.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use vxf_untrusted::{Account, is_off};

/// Keys that only matter for sampling, beams, speed or output, and those that have other readers.
pub(super) const HARMLESS: [&str; 49] = [
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "chat_format",
    "compile_config",
    "decoder_start_token_id",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "eos_token_id",
    "epsilon_cutoff",
    "eta_cutoff",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "max_window_size",
    "min_p",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "return_dict_in_generate",
    "target_lookbehind",
    "temperature",
    "token_healing",
    "top_h",
    "top_k",
    "top_p",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_cache",
];

/// Keys that change greedy decoding in ways that are not supported.
const UNSUPPORTED: [&str; 9] = [
    "bad_words_ids",
    "constraints",
    "dola_layers",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "forced_eos_token_id",
    "guidance_scale",
    "sequence_bias",
];

/// Changes of the next token's logits, in the order in which transformers applies them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    /// The score of each token that occurred in the prompt or the answer is divided by this if it is
    /// positive, multiplied otherwise; 1 changes nothing.
    pub repetition_penalty: f64,
    /// No sequence of so many tokens occurs twice; 0 allows all.
    pub no_repeat_ngram_size: usize,
    /// The least number of tokens before an end.
    pub min_new_tokens: usize,
    /// Tokens that never occur.
    pub suppress_tokens: BTreeSet<u32>,
    /// Tokens that do not begin an answer.
    pub begin_suppress_tokens: BTreeSet<u32>,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            min_new_tokens: 0,
            suppress_tokens: BTreeSet::new(),
            begin_suppress_tokens: BTreeSet::new(),
        }
    }
}

/// The longest answer by `generation_config.json`, which transformers would write.
#[derive(Clone, Debug)]
pub(super) struct Longest {
    /// The file and the key.
    place: String,
    key: &'static str,
    tokens: u64,
}

impl Longest {
    /// Reads `max_new_tokens`, or else `max_length`, whose default is not reported.
    pub(super) fn read(file: &str, config: &Account<'_>) -> Option<Self> {
        const DEFAULT: u64 = 20;
        let set = |key: &'static str| {
            let tokens = config.get(key).and_then(Value::as_u64)?;
            Some(Self { place: file.to_owned(), key, tokens })
        };
        set("max_new_tokens")
            .or_else(|| set("max_length").filter(|longest| longest.tokens != DEFAULT))
    }

    /// What the user should know where answers have up to `most` tokens.
    pub(super) fn remark(&self, most: usize) -> Option<String> {
        let Self { place, key, tokens } = self;
        let same = *key == "max_new_tokens" && *tokens == most as u64;
        let counts = if *key == "max_length" { " (with the prompt)" } else { "" };
        (!same).then(|| {
            format!(
                "{place}: `{key}` = {tokens}{counts} is not used: answers have up to {most} tokens"
            )
        })
    }
}

impl Generation {
    /// Whether it changes nothing.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// When a value is invalid or not supported.
    pub(super) fn read(config: &Account<'_>) -> Result<Self, String> {
        for key in UNSUPPORTED {
            // Zero n-grams, or a guidance of one, change nothing; a token may have the number 0 or 1.
            let neutral = |value: &Value| match key {
                "guidance_scale" => value.is_null() || value.as_f64() == Some(1.0),
                "forced_eos_token_id" => value.is_null(),
                _ => is_off(value) || *value == 0,
            };
            if let Some(value) = config.get(key).filter(|value| !neutral(value)) {
                return Err(format!(
                    "`{key}` = {value} is not supported; remove it to generate without it"
                ));
            }
        }
        let set = |key: &str| config.get(key).filter(|value| !value.is_null());
        let count = |key: &str| match set(key) {
            None => Ok(0),
            Some(value) => match value.as_u64().filter(|count| *count <= 1 << 20) {
                Some(count) => Ok(count as usize),
                None => Err(format!("`{key}` must be a whole number, got {value}")),
            },
        };
        let tokens = |key: &str| match set(key) {
            None => Ok(BTreeSet::new()),
            Some(value) => {
                let ids = value.as_array().map(|list| {
                    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
                    list.iter().map(id).collect::<Option<BTreeSet<u32>>>()
                });
                ids.flatten()
                    .ok_or_else(|| format!("`{key}` must be a list of tokens, got {value}"))
            }
        };
        let repetition_penalty = match set("repetition_penalty") {
            None => 1.0,
            Some(value) => match value.as_f64().filter(|penalty| *penalty > 0.0) {
                Some(penalty) => penalty,
                None => return Err(format!("`repetition_penalty` must be positive, got {value}")),
            },
        };
        // `min_length` counts the prompt too; there is always one.
        if let Some(length) = set("min_length").filter(|length| length.as_u64() != Some(0)) {
            return Err(format!("`min_length` = {length} is not supported; use `min_new_tokens`"));
        }
        Ok(Self {
            repetition_penalty,
            no_repeat_ngram_size: count("no_repeat_ngram_size")?,
            min_new_tokens: count("min_new_tokens")?,
            suppress_tokens: tokens("suppress_tokens")?,
            begin_suppress_tokens: tokens("begin_suppress_tokens")?,
        })
    }

    /// Changes the `logits` of the token that follows `prompt` and `answer`; `is_end` tells which
    /// tokens end an answer.
    pub fn apply(
        &self,
        prompt: &[u32],
        answer: &[u32],
        logits: &mut [f32],
        is_end: impl Fn(u32) -> bool,
    ) {
        let all = || prompt.iter().chain(answer).copied();
        if self.repetition_penalty != 1.0 {
            let penalty = self.repetition_penalty as f32;
            for token in all().collect::<BTreeSet<_>>() {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
                }
            }
        }
        let mut ban = |token: u32| {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        };
        let size = self.no_repeat_ngram_size;
        let seen: Vec<u32> = all().collect();
        if size > 0 && seen.len() + 1 >= size {
            let last = &seen[seen.len() + 1 - size..];
            for gram in seen.windows(size).filter(|gram| gram[..size - 1] == *last) {
                ban(gram[size - 1]);
            }
        }
        if answer.is_empty() {
            self.begin_suppress_tokens.iter().copied().for_each(&mut ban);
        }
        self.suppress_tokens.iter().copied().for_each(&mut ban);
        if answer.len() < self.min_new_tokens {
            (0..logits.len() as u32).filter(|token| is_end(*token)).for_each(|token| {
                logits[token as usize] = f32::NEG_INFINITY;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Generation, String> {
        let Value::Object(object) = value else { unreachable!("an object") };
        Generation::read(&Account::of(&object))
    }

    #[test]
    fn logits_change_as_in_transformers() {
        let none = |_| false;
        let apply = |value, prompt: &[u32], answer: &[u32]| {
            let mut logits = [1.0, -1.0, 2.0, 0.5];
            read(value).expect("settings").apply(prompt, answer, &mut logits, none);
            logits
        };
        let penalty = serde_json::json!({ "repetition_penalty": 2.0 });
        assert_eq!(apply(penalty, &[0, 1], &[1]), [0.5, -2.0, 2.0, 0.5]);
        let grams = serde_json::json!({ "no_repeat_ngram_size": 2 });
        assert_eq!(apply(grams, &[3, 2, 1], &[3]), [1.0, -1.0, f32::NEG_INFINITY, 0.5]);
        let begin = serde_json::json!({ "begin_suppress_tokens": [2], "suppress_tokens": [3, 9] });
        let banned = f32::NEG_INFINITY;
        assert_eq!(apply(begin.clone(), &[1], &[]), [1.0, -1.0, banned, banned]);
        assert_eq!(apply(begin, &[1], &[0]), [1.0, -1.0, 2.0, banned]);
        let mut logits = [1.0, 2.0];
        let least = read(serde_json::json!({ "min_new_tokens": 2 })).expect("settings");
        least.apply(&[0], &[0], &mut logits, |token| token == 1);
        assert_eq!(logits, [1.0, banned]);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let error = read(serde_json::json!({ "bad_words_ids": [[3]] })).expect_err("refused");
        assert!(error.contains("`bad_words_ids` = [[3]] is not supported"), "{error}");
        assert!(read(serde_json::json!({ "repetition_penalty": 0.0 })).is_err());
        let plain = serde_json::json!({ "guidance_scale": 1.0, "temperature": 0.6 });
        assert!(read(plain).expect("plain").is_plain());
        // What switches one key off is a setting of another.
        for (key, value) in [
            ("guidance_scale", 0),
            ("forced_eos_token_id", 0),
            ("forced_eos_token_id", 1),
            ("encoder_no_repeat_ngram_size", 1),
        ] {
            let error = read(serde_json::json!({ key: value })).expect_err(key);
            assert!(error.contains(key), "{error}");
        }
        let off =
            serde_json::json!({ "encoder_no_repeat_ngram_size": 0, "forced_eos_token_id": null });
        assert!(read(off).expect("plain").is_plain());
    }
}
