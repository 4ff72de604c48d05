//! Validation of names that become paths and addresses.

use std::path::{Component, Path};

/// Whether `text` is a valid hub id, `owner/name`.
///
/// As the hub requires, `--` and `..` are invalid, since `--` stands for `/` in the cache.
pub(crate) fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
    };
    text.len() <= 96
        && !text.contains("--")
        && !text.contains("..")
        && !text.ends_with(".git")
        && text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// Whether `text` can be a branch, a tag or a commit, and a path below `refs/`.
pub(crate) fn is_revision(text: &str) -> bool {
    is_inside(text)
        && !text.contains("..")
        && !text.contains(|c: char| c.is_whitespace() || "@:?*[~^".contains(c))
}

/// Whether `text` is a whole commit hash.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a file of that name stays inside its directory.
pub(crate) fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| c == '\\' || c.is_control())
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
        // Drive letters and other prefixes depend on the platform.
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Whether an entity tag can be the name of a blob.
pub(crate) fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with('.')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Percent-encodes `text` as one part of an address, except for the characters in `keep`.
pub(crate) fn quoted(text: &str, keep: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric()
            || b"-_.~".contains(&byte)
            || keep.as_bytes().contains(&byte)
        {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for name in ["a", "a/b.json", "..a", "a..b/c", "ä b"] {
            assert!(is_inside(name), "{name}");
        }
        for name in ["", "/a", "a/", "..", "a/../b", "./a", "a//b", "a\\..\\b", "a\0", "a\nb"] {
            assert!(!is_inside(name), "{name}");
        }
    }

    #[test]
    fn addresses_are_quoted() {
        assert_eq!(quoted("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(quoted("a b/c#é?", "/"), "a%20b/c%23%C3%A9%3F");
    }
}
