//! The file lists in a data set's card, its `README.md`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::glob::Pattern;
use super::{Splits, convention, front_matter, some};
use crate::{Error, Result};

/// The maximum size of a card in bytes; only the front matter is needed.
const MOST: u64 = 4 << 20;

/// A configuration of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Its name.
    pub(super) name: String,
    /// Whether it is the default.
    default: bool,
    /// The directory of its files, if one is given.
    pub(super) directory: Option<String>,
    /// The patterns of each split, if any are given.
    pub(super) splits: Option<Vec<(String, Vec<String>)>>,
}

/// The configurations of a card; empty if it lists none.
pub(super) fn configs(card: &Path) -> Result<Vec<Config>> {
    let mut bytes = Vec::new();
    let read = File::open(card).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map_err(|error| Error::File {
        path: card.to_owned(),
        problem: crate::files::io_problem(&error),
    })?;
    parse(&String::from_utf8_lossy(&bytes)).map_err(|problem| Error::File {
        path: card.to_owned(),
        problem: format!("its front matter: {problem}; correct it, or name the file to read"),
    })
}

fn parse(card: &str) -> Result<Vec<Config>, String> {
    let card = card.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let Some(rest) = card.strip_prefix("---\n") else { return Ok(Vec::new()) };
    let end = rest.find("\n---").unwrap_or(rest.len());
    // Includes the opening line, so that line numbers are those of the file.
    let front = &card[.."---\n".len() + end];
    // Front matter without file lists may be anything, for example a rule of dashes above a text.
    if !front.lines().any(|line| line.starts_with("configs") || line.starts_with("\"configs\"")) {
        return Ok(Vec::new());
    }
    let configs = front_matter::read(front)?.configs.unwrap_or_default();
    Ok(configs.into_iter().map(config).collect())
}

fn config(written: front_matter::Config) -> Config {
    let directory = written.data_dir.filter(|directory| !directory.is_empty());
    Config {
        name: written.config_name,
        default: written.default,
        directory: directory.map(|directory| directory.trim_matches(['.', '/']).to_owned()),
        splits: written.data_files.map(|files| files.0),
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

/// The maximum product of the total lengths of patterns and names; takes some seconds.
const MOST_WORK: usize = 500_000_000;

/// The maximum number of patterns of one configuration, each of which takes time to compile.
const MOST_PATTERNS: usize = 20_000;

/// The files of each split, in the order of their patterns.
///
/// # Errors
/// When a pattern is invalid, or there are too many for the number of files.
pub(super) fn expand(splits: &[(String, Vec<String>)], files: &[String]) -> Result<Splits, String> {
    let letters = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
    let work = splits.iter().map(|(_, patterns)| letters(patterns)).sum::<usize>();
    let count = splits.iter().map(|(_, patterns)| patterns.len()).sum::<usize>();
    if count > MOST_PATTERNS || work.saturating_mul(letters(files)) > MOST_WORK {
        return Err("its README.md has too many patterns for so many files; name the file to \
                    read"
            .to_owned());
    }
    let mut expanded = Splits::new();
    for (split, patterns) in splits {
        let mut found: Vec<String> = Vec::new();
        for text in patterns {
            let pattern =
                Pattern::new(text).map_err(|problem| format!("its README.md has {problem}"))?;
            let mut matching: Vec<&String> = files
                .iter()
                .filter(|file| *file == text || !convention::is_metadata(file))
                .filter(|file| pattern.matches(file) && !found.contains(file))
                .collect();
            matching.sort();
            found.extend(matching.into_iter().cloned().collect::<Vec<_>>());
        }
        expanded.insert(split.clone(), found);
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relevant front matter of PKU-Alignment/BeaverTails.
    const CARD: &str = "---\nlicense: cc-by-nc-4.0\ntags:\n- safe\nconfigs:\n- config_name: default\n  data_files:\n  - split: 330k_train\n    path: round0/330k/train.jsonl.xz\n  - split: 30k_train\n    path: round0/30k/train.jsonl.gz\n  - split: 30k_test\n    path: round0/30k/test.jsonl.gz\nsize_categories:\n- 100K<n<1M\n---\n# Card\nconfigs:\n";

    #[test]
    fn splits_of_any_name_are_read() {
        let configs = parse(CARD).expect("YAML");
        let config = choose(&configs, "").expect("the only one");
        let files = ["round0/30k/test.jsonl.gz", "round0/30k/train.jsonl.gz"].map(str::to_owned);
        let splits = expand(config.splits.as_ref().expect("files"), &files).expect("few");
        assert_eq!(splits["30k_train"], ["round0/30k/train.jsonl.gz"]);
        assert_eq!(splits["330k_train"], [""; 0]);
        let crlf = CARD.replace('\n', "\r\n");
        assert_eq!(parse(&crlf).expect("YAML"), configs);
        for none in ["# No front matter\nconfigs:\n- config_name: a\n", "---\n: [\n---\n", "---\n"]
        {
            assert!(parse(none).expect("no files").is_empty(), "{none}");
        }
    }

    #[test]
    fn patterns_beyond_measure_are_refused() {
        let splits = [("train".to_owned(), vec!["*a".repeat(500); 4000])];
        let files: Vec<_> = (0..1000).map(|file| format!("{file}.jsonl")).collect();
        let error = expand(&splits, &files).expect_err("hours of work");
        assert!(error.contains("README.md"), "{error}");
        let splits = [("train".to_owned(), vec!["*".to_owned(); MOST_PATTERNS + 1])];
        assert!(expand(&splits, &files[..1]).is_err());
        let splits = [("train".to_owned(), vec!["[a".to_owned()])];
        assert!(
            expand(&splits, &files)
                .expect_err("no pattern")
                .contains("README.md has the pattern `[a`")
        );
    }

    #[test]
    fn mistakes_have_the_file_s_lines() {
        let card = "---\nlicense: mit\nconfigs:\n- config_name: a\n  data_files: 7\n---\n";
        let error = parse(card).expect_err("7 is no file");
        assert!(error.contains("line 5"), "{error}");
    }

    #[test]
    fn the_default_configuration_is_the_marked_one() {
        let card = |second: &str| {
            parse(&format!(
                "---\nconfigs:\n- config_name: a\n  data_dir: ./x/\n- config_name: b\n{second}---\n"
            ))
            .expect("YAML")
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
