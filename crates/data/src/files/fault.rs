//! Names common faults of JSON files, with what to do.

/// What is known to be wrong with the row `bytes`, which is not JSON.
pub(super) fn remedy(bytes: &[u8]) -> Option<&'static str> {
    if bytes.trim_ascii() == b"{" {
        return Some(
            "an object that is written over several lines; a .jsonl file has one object in each \
             line (write it so, or as one list in a .json file)",
        );
    }
    if bare(bytes, &[b"NaN", b"Infinity"]) {
        return Some(
            "NaN and Infinity are not JSON, though Python's `json.dumps` writes them; write null or \
             leave the key out",
        );
    }
    has_half_pair(bytes).then_some(
        "half of a surrogate pair such as \\ud83d is not a character; write the whole pair or the \
         character itself",
    )
}

/// Whether one of `words` occurs outside of a text.
fn bare(bytes: &[u8], words: &[&[u8]]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            _ if words.iter().any(|word| bytes[at..].starts_with(word)) => return true,
            _ => {}
        }
    }
    false
}

/// Whether an escape of half a surrogate pair stands alone.
fn has_half_pair(bytes: &[u8]) -> bool {
    let unit = |at: usize| {
        let escape = bytes.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"))?;
        u32::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
    };
    let mut at = 0;
    while at < bytes.len() {
        match (unit(at), unit(at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 12,
            (Some(0xD800..=0xDFFF), _) => return true,
            _ if bytes[at] == b'\\' => at += 2,
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let named =
            |text: &str, word: &str| remedy(text.as_bytes()).is_some_and(|it| it.contains(word));
        assert!(named("{", "several lines"));
        assert!(named(r#"{"a": NaN}"#, "NaN"));
        assert!(named(r#"{"a": "\ud83d!"}"#, "surrogate"));
        for text in [r#"{"a": "NaN""#, r#"{"a": "\ud83d\ude00""#, r#"{"a": "\\ud83d""#, r#"{"a":"#]
        {
            assert_eq!(remedy(text.as_bytes()), None, "{text}");
        }
    }
}
