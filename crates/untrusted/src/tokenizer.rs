//! Limits on tokenizers: how far one may expand a text, and how long its vocabulary entries may be.
//!
//! A tokenizer file may replace one character with two, forty times over, which turns one character
//! into 10^12. No real tokenizer does that, so such a file is refused unread.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The maximum factor by which all replacements together may lengthen a text.
const MOST: u64 = 4096;

/// The maximum length of a vocabulary entry, in characters. The tokenizers crate stores entries in a trie
/// with a level per character and drops it recursively; tens of thousands of levels overflow the stack.
const LONGEST: usize = 1024;

/// The part of `tokenizer.json` that holds the vocabulary.
#[derive(Deserialize)]
struct Pieces {
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default, deserialize_with = "longest")]
    vocab: usize,
}

/// The length in characters of the longest key of a map, or of the longest first element of the pairs in
/// a list. No entry is kept in memory.
fn longest<'de, D: Deserializer<'de>>(vocabulary: D) -> Result<usize, D::Error> {
    struct Longest;
    impl<'de> Visitor<'de> for Longest {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a vocabulary")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<usize, A::Error> {
            let mut longest = 0;
            while let Some((piece, _)) = pairs.next_element::<(String, IgnoredAny)>()? {
                longest = longest.max(piece.chars().count());
            }
            Ok(longest)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut pieces: A) -> Result<usize, A::Error> {
            let mut longest = 0;
            while let Some((piece, _)) = pieces.next_entry::<String, IgnoredAny>()? {
                longest = longest.max(piece.chars().count());
            }
            Ok(longest)
        }
    }
    vocabulary.deserialize_any(Longest)
}

/// The parts of `tokenizer.json` that rewrite or assemble text.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Checks the text of a `tokenizer.json`; invalid JSON is left to the tokenizer's reader to report.
pub fn check(text: &str) -> Result<(), String> {
    // Valid JSON that cannot be checked, for example with a duplicate key, is refused.
    let unfit = |error: serde_json::Error| match error.is_data() {
        true => Err(format!("is not a tokenizer: {error}")),
        false => Ok(()),
    };
    let steps = match serde_json::from_str::<Steps>(text) {
        Ok(steps) => steps,
        Err(error) => return unfit(error),
    };
    for (name, step) in [("normalizer", &steps.normalizer), ("decoder", &steps.decoder)] {
        if factor(step) > MOST {
            return Err(format!(
                "its `{name}` can make a text more than {MOST} times longer, which no real \
                 tokenizer does"
            ));
        }
    }
    match serde_json::from_str::<Pieces>(text) {
        Ok(Pieces { model: Model { vocab } }) if vocab > LONGEST => Err(format!(
            "its vocabulary has an entry of {vocab} characters, above the limit of {LONGEST}"
        )),
        Ok(_) => Ok(()),
        Err(error) => unfit(error),
    }
}

/// The factor by which a step and its nested steps may lengthen a text.
fn factor(step: &Value) -> u64 {
    match step {
        Value::Object(map) if step["type"] == "Replace" => replaced(&step["pattern"], map),
        Value::Object(map) => product(map.values()),
        Value::Array(list) => product(list.iter()),
        _ => 1,
    }
}

fn product<'a>(steps: impl Iterator<Item = &'a Value>) -> u64 {
    steps.map(factor).fold(1, u64::saturating_mul)
}

fn replaced(pattern: &Value, step: &serde_json::Map<String, Value>) -> u64 {
    let new = step.get("content").and_then(Value::as_str).map_or(0, str::len) as u64;
    match pattern["String"].as_str().map_or(0, str::len) as u64 {
        // A pattern may match the empty string between all characters.
        0 => 1 + new,
        old => new.div_ceil(old).max(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn replacements_that_explode_are_rejected() {
        let replace = |old: &str, new: &str| json!({ "type": "Replace", "pattern": { "String": old }, "content": new });
        let tokenizer = |steps: Vec<serde_json::Value>| {
            json!({ "normalizer": { "type": "Sequence", "normalizers": steps }, "model": {} })
                .to_string()
        };
        let llama = vec![json!({ "type": "Prepend", "prepend": "▁" }), replace(" ", "▁")];
        assert_eq!(check(&tokenizer(llama)), Ok(()));
        let quotes = vec![replace("“", "\""); 60];
        assert_eq!(check(&tokenizer(quotes)), Ok(()));
        let bomb = vec![replace("a", "aa"); 40];
        assert!(check(&tokenizer(bomb)).expect_err("a bomb").contains("`normalizer`"));
        let regex =
            json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "x".repeat(9999) });
        assert!(check(&json!({ "decoder": regex }).to_string()).is_err());
        assert_eq!(check("{"), Ok(()));
    }

    #[test]
    fn the_length_of_entries_is_limited() {
        for (length, fits) in [(1024, true), (1025, false)] {
            let piece = "é".repeat(length);
            for vocab in [json!([["<unk>", 0.0], [piece, -1.5]]), json!({ "<unk>": 0, &piece: 1 })]
            {
                let text = json!({ "model": { "type": "Unigram", "vocab": vocab } }).to_string();
                assert_eq!(check(&text).is_ok(), fits, "{length}");
            }
        }
        let twice = r#"{"model": {"vocab": {}}, "model": {"vocab": {}}}"#;
        assert!(check(twice).expect_err("two models").contains("duplicate"));
    }
}
