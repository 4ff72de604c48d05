//! Patterns of file names, as cards of data sets have them.

/// The longest pattern: that of the longest path that a file can have.
const LONGEST: usize = 4096;

/// Whether `name` matches `pattern`: `*` and `?` stay within a directory, `**` does not, and
/// `[a-z0]` is one of several characters.
///
/// A pattern that names a directory matches all that is in it. The work is bounded by the product
/// of the lengths, and a pattern of more than 4096 bytes matches nothing.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern).trim_end_matches('/');
    if pattern.len() > LONGEST {
        return false;
    }
    if name.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('/')) {
        return true;
    }
    let name: Vec<char> = name.chars().collect();
    let pattern: Vec<Piece> = pieces(pattern);
    // Which prefixes of the name the pattern so far matches.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for piece in &pattern {
        let mut next = vec![false; name.len() + 1];
        let mut earlier = false;
        for at in 0..=name.len() {
            match piece {
                Piece::Star { slashes } => {
                    let longer = at > 0 && next[at - 1] && (*slashes || name[at - 1] != '/');
                    next[at] = reached[at] || longer;
                }
                Piece::Directories => {
                    // None at all, or any number of whole ones.
                    next[at] = reached[at] || (earlier && name[at - 1] == '/');
                    earlier |= reached[at];
                }
                piece if at > 0 => next[at] = reached[at - 1] && piece.is(name[at - 1]),
                _ => {}
            }
        }
        reached = next;
    }
    reached[name.len()]
}

enum Piece {
    /// `*`, or `**` at the end of something.
    Star { slashes: bool },
    /// `**/`
    Directories,
    /// `?`
    Any,
    /// `[...]`, with `!` for none of them.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Itself.
    One(char),
}

impl Piece {
    fn is(&self, found: char) -> bool {
        match self {
            Self::Any => found != '/',
            Self::One(wanted) => found == *wanted,
            Self::Class { negated, ranges } => {
                found != '/'
                    && ranges.iter().any(|(low, high)| (*low..=*high).contains(&found)) != *negated
            }
            Self::Star { .. } | Self::Directories => false,
        }
    }
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let (piece, after) = match first {
            '*' if after.starts_with("*/") => (Piece::Directories, &after[2..]),
            '*' => {
                let more = after.trim_start_matches('*');
                (Piece::Star { slashes: more.len() < after.len() }, more)
            }
            '?' => (Piece::Any, after),
            '[' => class(after).unwrap_or((Piece::One('['), after)),
            other => (Piece::One(other), after),
        };
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A class after its opening bracket, and what follows it.
fn class(text: &str) -> Option<(Piece, &str)> {
    let (inner, after) = text.split_once(']')?;
    let members = inner.strip_prefix('!').unwrap_or(inner);
    let characters: Vec<char> = members.chars().collect();
    let mut ranges = Vec::new();
    let mut rest = &characters[..];
    while let [first, others @ ..] = rest {
        rest = match others {
            ['-', last, others @ ..] => {
                ranges.push((*first, *last));
                others
            }
            _ => {
                ranges.push((*first, *first));
                others
            }
        };
    }
    Some((Piece::Class { negated: members.len() < inner.len(), ranges }, after))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_longer_than_any_path_matches_nothing() {
        assert!(matches(&"*".repeat(4096), "a"));
        assert!(!matches(&"*".repeat(4097), "a"));
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
            ("t-[.json", "t-[.json", true),
            ("?.json", "é.json", true),
            ("?.json", "/.json", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let (pattern, name) = ("*a".repeat(300), "a".repeat(3000));
        assert!(matches(&pattern, &name));
        assert!(!matches(&(pattern + "b"), &name));
    }
}
