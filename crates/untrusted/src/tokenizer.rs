//! How much longer a tokenizer may make a text before it cuts it up, and how long its pieces may be.
//!
//! A tokenizer's file may replace one letter with two, forty times over: a text of one letter would
//! become one of a million million. Nobody's tokenizer needs that, so it is refused unread.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What all replacements together may multiply the length of a text by.
const MOST: u64 = 4096;

/// The longest piece of a vocabulary, in letters. The reader keeps pieces in a tree a letter to a level,
/// which it takes down by recursion: tens of thousands of levels are more than a stack holds.
const LONGEST: usize = 1024;

/// The part of `tokenizer.json` that lists pieces.
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

/// The letters of the longest key of a map, or of the longest first part of the pairs in a list; none of
/// them is kept.
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

/// The parts of `tokenizer.json` that change a text or put it together.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Checks the text of a `tokenizer.json`; one that is no JSON is left to its reader.
pub fn check(text: &str) -> Result<(), String> {
    // What is JSON and still cannot be looked at, such as a key given twice, is not handed on unseen.
    let unfit = |error: serde_json::Error| match error.is_data() {
        true => Err(format!("is no tokenizer: {error}")),
        false => Ok(()),
    };
    let steps = match serde_json::from_str::<Steps>(text) {
        Ok(steps) => steps,
        Err(error) => return unfit(error),
    };
    for (name, step) in [("normalizer", &steps.normalizer), ("decoder", &steps.decoder)] {
        if factor(step) > MOST {
            return Err(format!(
                "its `{name}` can make a text more than {MOST} times longer; no tokenizer of a \
                 language does"
            ));
        }
    }
    match serde_json::from_str::<Pieces>(text) {
        Ok(Pieces { model: Model { vocab } }) if vocab > LONGEST => Err(format!(
            "its vocabulary has a piece of {vocab} letters, and {LONGEST} are the most that is read"
        )),
        Ok(_) => Ok(()),
        Err(error) => unfit(error),
    }
}

/// How much longer a text may get in a step and all that is within it.
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
        // A pattern may match nothing, between all letters.
        0 => 1 + new,
        old => new.div_ceil(old).max(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn real_replacements_pass_and_bombs_do_not() {
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
    fn pieces_have_an_end() {
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
