//! How much longer a tokenizer may make a text before it cuts it up.
//!
//! A tokenizer's file may replace one letter with two, forty times over: a text of one letter would
//! become one of a million million. Nobody's tokenizer needs that, so it is refused unread.

use serde::Deserialize;
use serde_json::Value;

/// What all replacements together may multiply the length of a text by.
const MOST: u64 = 4096;

/// The parts of `tokenizer.json` that change a text or put it together.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Checks the text of a `tokenizer.json`; one that is no JSON is left to its reader.
pub(super) fn check(text: &str) -> Result<(), String> {
    let Ok(steps) = serde_json::from_str::<Steps>(text) else { return Ok(()) };
    for (name, step) in [("normalizer", &steps.normalizer), ("decoder", &steps.decoder)] {
        if factor(step) > MOST {
            return Err(format!(
                "its `{name}` can make a text more than {MOST} times longer; no tokenizer of a \
                 language does"
            ));
        }
    }
    Ok(())
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
}
