//! Glob patterns of file names, as cards of data sets use them.

use globset::{GlobBuilder, GlobMatcher};

/// The maximum length of a pattern: the longest path that a file can have.
const LONGEST: usize = 4096;

/// A pattern: `*` and `?` match within a directory, `**` across directories, `[a-z0]` one of several
/// characters, `{a,b}` one of several texts; `?` and `[...]` match ASCII only. A pattern that names a
/// directory matches all files in it.
pub(super) struct Pattern<'a> {
    text: &'a str,
    /// `None` for a plain name, as most are.
    glob: Option<GlobMatcher>,
}

impl<'a> Pattern<'a> {
    /// # Errors
    /// Says what is wrong with the pattern.
    pub(super) fn new(text: &'a str) -> Result<Self, String> {
        let text = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
        if text.len() > LONGEST {
            return Err(format!("a pattern of more than {LONGEST} bytes"));
        }
        let glob = match text.contains(['*', '?', '[', '{']) {
            true => Some(
                GlobBuilder::new(text)
                    .literal_separator(true)
                    .backslash_escape(false)
                    .build()
                    .map_err(|error| format!("the pattern `{text}`: {}", error.kind()))?
                    .compile_matcher(),
            ),
            false => None,
        };
        Ok(Self { text, glob })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match (name.strip_prefix(self.text), &self.glob) {
            (Some(""), _) => true,
            (Some(rest), _) if rest.starts_with('/') => true,
            (_, Some(glob)) => glob.is_match(name),
            (_, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).expect(pattern).matches(name)
    }

    #[test]
    fn patterns_of_cards_match() {
        for (pattern, name, wanted) in [
            ("data/train-*", "data/train-00000-of-00001.parquet", true),
            ("data/train-*", "data/more/train-0.parquet", false),
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "b/a.jsonl", false),
            ("**/*.jsonl", "a.jsonl", true),
            ("**/*.jsonl", "b/c/a.jsonl", true),
            ("main/**", "main/a/b.json", true),
            ("**", "main/a/b.json", true),
            ("a/**/b.json", "a/b.json", true),
            ("a/**/b.json", "a/x/y/b.json", true),
            ("a/**/b.json", "a/xb.json", false),
            ("main", "main/a.json", true),
            ("main/", "main/a.json", true),
            ("main", "mainly/a.json", false),
            ("./a.json", "a.json", true),
            ("t-[0-9][0-9].json", "t-07.json", true),
            ("t-[0-9].json", "t-x.json", false),
            ("t-[!x].json", "t-y.json", true),
            ("{train,dev}-*.json", "dev-1.json", true),
            ("{train,dev}-*.json", "test-1.json", false),
            ("a{,-b}.json", "a-b.json", true),
            ("?.json", "e.json", true),
            // A character beyond ASCII has more than one byte.
            ("?.json", "é.json", false),
            ("*.json", "é.json", true),
            ("?.json", "/.json", false),
            (r"a\*.json", r"a\b.json", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_an_error() {
        for (pattern, says) in [("t-[.json", "t-[.json"), ("a{b", "a{b"), ("[z-a]", "[z-a]")] {
            let error = Pattern::new(pattern).err().expect(pattern);
            assert!(error.contains(says), "{error}");
        }
        assert!(Pattern::new(&"a".repeat(4096)).is_ok());
        assert!(Pattern::new(&"a".repeat(4097)).is_err());
    }

    /// Matching takes linear time in the product of the lengths, without backtracking.
    #[test]
    fn hostile_patterns_end() {
        let (pattern, name) = ("*a".repeat(300), "a".repeat(3000));
        assert!(matches(&pattern, &name));
        assert!(!matches(&(pattern + "b"), &name));
        for nested in ["{".repeat(4000), "{a,".repeat(1000) + &"}".repeat(1000), "[[".repeat(2000)]
        {
            let _ = Pattern::new(&nested).map(|pattern| pattern.matches("a"));
        }
    }
}
