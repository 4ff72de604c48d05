//! The corner of YAML in which cards of data sets name their files.
//!
//! Block mappings, block lists, one-line lists, and scalars plain or quoted. All else is text of no
//! meaning, which no card with files has.

/// A value, whose text is the document's: a card of nothing but tiny entries stays small in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Yaml<'a> {
    /// A scalar; empty where nothing is written.
    Text(&'a str),
    /// A list.
    List(Vec<Yaml<'a>>),
    /// A mapping, in order.
    Map(Vec<(&'a str, Yaml<'a>)>),
}

impl<'a> Yaml<'a> {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Yaml<'a>> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The scalar.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Blocks within blocks that are followed.
const DEEPEST: usize = 16;

/// The value of a key at the left margin of a document; nothing if it is not there.
pub(super) fn section<'a>(document: &'a str, key: &str) -> Option<Yaml<'a>> {
    let mut lines = document.lines();
    let rest = lines.by_ref().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    if !bare(rest).is_empty() {
        return Some(scalar(bare(rest)));
    }
    let block = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '-', '#', '\t']));
    let lines: Vec<(usize, &str)> = block
        .map(|line| (line.len() - line.trim_start().len(), bare(line)))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    Some(Reader { lines, at: 0 }.block(0, 0))
}

/// A line without the space around it and its comment.
fn bare(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') {
        return "";
    }
    // Within quotes a `#` is none, and no card has a comment after them.
    match line.contains(['"', '\'']) {
        true => line,
        false => line.split_once(" #").map_or(line, |(text, _)| text.trim_end()),
    }
}

struct Reader<'a> {
    /// Indentation and text.
    lines: Vec<(usize, &'a str)>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&self) -> Option<(usize, &'a str)> {
        self.lines.get(self.at).copied()
    }

    /// The block at hand, which is indented by at least `least`.
    fn block(&mut self, least: usize, depth: usize) -> Yaml<'a> {
        let nothing = Yaml::Text("");
        let Some((indent, text)) = self.line() else { return nothing };
        if indent < least || depth > DEEPEST {
            return nothing;
        }
        match (is_item(text), entry(text)) {
            (true, _) => self.list(indent, depth),
            (false, Some(_)) => self.map(indent, depth),
            (false, None) => {
                let value = scalar(text);
                self.at += 1;
                value
            }
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Yaml<'a> {
        let mut items = Vec::new();
        while let Some((found, text)) = self.line() {
            if found < indent || (found == indent && !is_item(text)) {
                break;
            }
            if found > indent {
                // A stray line, such as the second one of a text.
                self.at += 1;
                continue;
            }
            let inner = text[1..].trim_start();
            if inner.is_empty() {
                self.at += 1;
                items.push(self.block(indent + 1, depth + 1));
            } else {
                // What follows the dash is a block of its own, indented past the dash.
                self.lines[self.at] = (indent + text.len() - inner.len(), inner);
                items.push(self.block(indent + 1, depth + 1));
            }
        }
        Yaml::List(items)
    }

    fn map(&mut self, indent: usize, depth: usize) -> Yaml<'a> {
        // Most have one entry or a few, and a vector that grows has room for four at once.
        let mut entries = Vec::with_capacity(1);
        while let Some((found, text)) = self.line() {
            if found < indent || (found == indent && is_item(text)) {
                break;
            }
            let Some((key, rest)) = entry(text).filter(|_| found == indent) else {
                self.at += 1;
                continue;
            };
            self.at += 1;
            let value = match (rest.is_empty(), self.line()) {
                (false, _) => scalar(rest),
                // The items of a list may stand under their key without indentation.
                (true, Some((next, text))) if next == indent && is_item(text) => {
                    self.list(indent, depth + 1)
                }
                (true, _) => self.block(indent + 1, depth + 1),
            };
            entries.push((unquoted(key), value));
        }
        Yaml::Map(entries)
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// Key and rest of a line `key: rest`.
fn entry(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['[', '{']) {
        return None;
    }
    let quoted = text.chars().next().filter(|first| matches!(first, '"' | '\''));
    let after = match quoted {
        Some(quote) => text[1..].find(quote)? + 2,
        None => 0,
    };
    let colon = after
        + text[after..].find(": ").or_else(|| {
            let rest = &text[after..];
            rest.ends_with(':').then(|| rest.len() - 1)
        })?;
    Some((&text[..colon], text[colon + 1..].trim()))
}

fn scalar(text: &str) -> Yaml<'_> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => {
            let items = inner.split(',').map(str::trim).filter(|item| !item.is_empty());
            Yaml::List(items.map(|item| Yaml::Text(unquoted(item))).collect())
        }
        None => Yaml::Text(unquoted(text)),
    }
}

fn unquoted(text: &str) -> &str {
    let within = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Yaml<'_> {
        Yaml::Text(text)
    }

    #[test]
    fn lists_of_mappings_are_read_with_and_without_indentation() {
        let plain = "license: mit\nconfigs:\n- config_name: \"a: b\"  \n  data_files:\n  - split: train\n    path:\n    - x/*.jsonl\n    - 'y.jsonl'\n  # a remark\n  default: true\n-   config_name: two # really\n    data_files: [p.json, 'q.json']\nother:\n- configs\n";
        let indented = plain.replace("\n- conf", "\n  - conf").replace("\n-  ", "\n  -  ");
        let indented = indented.replace("\n  data_files", "\n    data_files");
        let configs = section(plain, "configs").expect("a section");
        let Yaml::List(items) = &configs else { panic!("{configs:?}") };
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].get("config_name"), Some(&text("a: b")));
        assert_eq!(items[0].get("default"), Some(&text("true")));
        let Some(Yaml::List(files)) = items[0].get("data_files") else { panic!("{items:?}") };
        assert_eq!(files[0].get("split"), Some(&text("train")));
        let paths = Yaml::List(vec![text("x/*.jsonl"), text("y.jsonl")]);
        assert_eq!(files[0].get("path"), Some(&paths));
        assert_eq!(items[1].get("config_name"), Some(&text("two")));
        let pair = Yaml::List(vec![text("p.json"), text("q.json")]);
        assert_eq!(items[1].get("data_files"), Some(&pair));
        assert!(
            matches!(section(&indented, "configs"), Some(Yaml::List(items)) if items.len() == 2)
        );
    }

    #[test]
    fn anything_else_is_no_section_or_harmless() {
        assert_eq!(section("a: 1\n", "configs"), None);
        assert_eq!(section("configs: []\n", "configs"), Some(Yaml::List(vec![])));
        assert_eq!(section("configs:\n", "configs"), Some(text("")));
        for strange in [
            "configs:\n  - - - - a: b",
            "configs:\n  - |\n     text\n   odd: 1\n",
            "configs:\n\t- a\n -b\n  - : x\n",
            "configs:\n  \"\n",
            &format!("configs:\n{}", "- ".repeat(2000)),
        ] {
            section(strange, "configs");
        }
    }
}
