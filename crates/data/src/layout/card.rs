//! What the card of a data set, its `README.md`, says about its files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::yaml::{Yaml, section};
use super::{Splits, convention, glob, some};
use crate::{Error, Result};

/// How much of a card is read; its front matter comes first.
const MOST: u64 = 4 << 20;

/// A configuration of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Its name.
    pub(super) name: String,
    /// Whether it is the one to take when none is named.
    default: bool,
    /// The directory that its files are in, if one is named.
    pub(super) directory: Option<String>,
    /// The patterns of each split, if any are named.
    pub(super) splits: Option<Vec<(String, Vec<String>)>>,
}

/// The configurations of a card; none if it names none.
pub(super) fn configs(card: &Path) -> Result<Vec<Config>> {
    let mut bytes = Vec::new();
    let read = File::open(card).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map_err(|error| Error::File {
        path: card.to_owned(),
        problem: crate::files::io_problem(&error),
    })?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(card: &str) -> Vec<Config> {
    let card = card.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let front = card.strip_prefix("---\n").map(|rest| rest.split("\n---").next().unwrap_or(rest));
    match front.and_then(|front| section(front, "configs")) {
        Some(Yaml::List(items)) => items.iter().filter_map(config).collect(),
        _ => Vec::new(),
    }
}

fn config(item: &Yaml<'_>) -> Option<Config> {
    let text = |key| item.get(key).and_then(Yaml::text).filter(|text| !text.is_empty());
    Some(Config {
        name: text("config_name")?.to_owned(),
        default: text("default").is_some_and(|text| text.eq_ignore_ascii_case("true")),
        directory: text("data_dir").map(|text| text.trim_matches(['.', '/']).to_owned()),
        splits: item.get("data_files").map(splits),
    })
}

/// The patterns of each split; what names no split is `train`.
fn splits(files: &Yaml<'_>) -> Vec<(String, Vec<String>)> {
    let train = || "train".to_owned();
    match files {
        Yaml::Map(entries) => {
            entries.iter().map(|(name, of)| ((*name).to_owned(), texts(of))).collect()
        }
        Yaml::List(items) if items.iter().any(|item| item.get("path").is_some()) => items
            .iter()
            .filter_map(|item| {
                let split =
                    item.get("split").and_then(Yaml::text).map_or_else(train, str::to_owned);
                Some((split, texts(item.get("path")?)))
            })
            .collect(),
        other => vec![(train(), texts(other))],
    }
}

fn texts(value: &Yaml<'_>) -> Vec<String> {
    match value {
        Yaml::Text(text) => vec![(*text).to_owned()],
        Yaml::List(items) => items.iter().filter_map(Yaml::text).map(str::to_owned).collect(),
        Yaml::Map(_) => Vec::new(),
    }
}

/// The configuration named `wanted`, or the default one.
pub(super) fn choose<'a>(configs: &'a [Config], wanted: &str) -> Result<&'a Config, String> {
    let named = |name: &str| configs.iter().find(|config| config.name == name);
    let found = match (wanted, configs) {
        ("", [only]) => Some(only),
        ("", _) => configs.iter().find(|config| config.default).or_else(|| named("default")),
        (wanted, _) => named(wanted),
    };
    found.ok_or_else(|| {
        let there: Vec<String> = configs.iter().map(|config| config.name.clone()).collect();
        match wanted {
            "" => format!("which `config`? There are {}", some(&there)),
            _ => format!("there is no configuration `{wanted}`; there are {}", some(&there)),
        }
    })
}

/// Letters of patterns times letters of names that are looked at: some seconds' work.
const MOST_WORK: usize = 2_000_000_000;

/// The files of each split, in the order of their patterns.
///
/// # Errors
/// When there are more patterns than can be held against so many files.
pub(super) fn expand(splits: &[(String, Vec<String>)], files: &[String]) -> Result<Splits, String> {
    let letters = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
    let patterns = splits.iter().map(|(_, patterns)| letters(patterns)).sum::<usize>();
    if patterns.saturating_mul(letters(files)) > MOST_WORK {
        return Err("its README.md has too many patterns for so many files; name the file to \
                    read"
            .to_owned());
    }
    let expanded = splits.iter().map(|(split, patterns)| {
        let mut found: Vec<String> = Vec::new();
        for pattern in patterns {
            let mut matching: Vec<&String> = files
                .iter()
                .filter(|file| *file == pattern || !convention::is_metadata(file))
                .filter(|file| glob::matches(pattern, file) && !found.contains(file))
                .collect();
            matching.sort();
            found.extend(matching.into_iter().cloned().collect::<Vec<_>>());
        }
        (split.clone(), found)
    });
    Ok(expanded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The front matter of PKU-Alignment/BeaverTails, as far as it matters here.
    const CARD: &str = "---\nlicense: cc-by-nc-4.0\ntags:\n- safe\nconfigs:\n- config_name: default\n  data_files:\n  - split: 330k_train\n    path: round0/330k/train.jsonl.xz\n  - split: 30k_train\n    path: round0/30k/train.jsonl.gz\n  - split: 30k_test\n    path: round0/30k/test.jsonl.gz\nsize_categories:\n- 100K<n<1M\n---\n# Card\nconfigs:\n";

    #[test]
    fn splits_of_any_name_are_read() {
        let configs = parse(CARD);
        let config = choose(&configs, "").expect("the only one");
        let files = ["round0/30k/test.jsonl.gz", "round0/30k/train.jsonl.gz"].map(str::to_owned);
        let splits = expand(config.splits.as_ref().expect("files"), &files).expect("few");
        assert_eq!(splits["30k_train"], ["round0/30k/train.jsonl.gz"]);
        assert_eq!(splits["330k_train"], [""; 0]);
        let crlf = CARD.replace('\n', "\r\n");
        assert_eq!(parse(&crlf), configs);
        assert!(parse("# No front matter\nconfigs:\n- config_name: a\n").is_empty());
    }

    #[test]
    fn patterns_beyond_measure_are_refused() {
        let splits = [("train".to_owned(), vec!["*a".repeat(500); 4000])];
        let files: Vec<_> = (0..1000).map(|file| format!("{file}.jsonl")).collect();
        let error = expand(&splits, &files).expect_err("hours of work");
        assert!(error.contains("README.md"), "{error}");
    }

    #[test]
    fn the_default_configuration_is_the_marked_one() {
        let card = |second: &str| {
            parse(&format!(
                "---\nconfigs:\n- config_name: a\n  data_dir: ./x/\n- config_name: b\n{second}---\n"
            ))
        };
        let marked = card("  default: true\n  data_files: b.jsonl\n");
        assert_eq!(choose(&marked, "").expect("marked").name, "b");
        assert_eq!(marked[1].splits, Some(vec![("train".into(), vec!["b.jsonl".into()])]));
        assert_eq!(choose(&marked, "a").expect("named").directory.as_deref(), Some("x"));
        let open = card("");
        assert_eq!(choose(&open, ""), Err("which `config`? There are a, b".into()));
        assert!(choose(&open, "c").is_err_and(|error| error.contains("`c`; there are a, b")));
    }
}
