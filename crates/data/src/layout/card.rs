//! What a data set's card, its `README.md`, says about files, their reading and their classes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::described::Described;
use super::features::{self, Description};
use super::front_matter::SplitPatterns;
use super::glob::Pattern;
use super::settings::ReaderSettings;
use super::{DEFAULT_CONFIG, Splits, convention, excerpt, front_matter};
use crate::files::NamedClasses;
use crate::{Error, Result};

/// The maximum size of a card in bytes; only the front matter is needed.
const MOST: u64 = 4 << 20;

/// What a card says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// Its configurations; empty if it lists none.
    pub(super) configs: Vec<Config>,
    /// The classes in its descriptions.
    described: Described,
}

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
    pub(super) splits: Option<SplitPatterns>,
    /// The settings of the reader.
    pub(super) settings: ReaderSettings,
    /// The classes of its columns.
    classes: Vec<NamedClasses>,
}

/// Reads a card.
pub(super) fn read(card: &Path) -> Result<Card> {
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

fn parse(card: &str) -> Result<Card, String> {
    let card = card.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let Some(rest) = card.strip_prefix("---\n") else { return Ok(Card::default()) };
    let end = rest.find("\n---").unwrap_or(rest.len());
    // Includes the opening line, so that line numbers are those of the file.
    let front = &card[.."---\n".len() + end];
    // Front matter without these entries may be anything, for example a rule of dashes above a text.
    let is_read = |line: &str| {
        let line = line.trim_start_matches('"');
        line.starts_with("configs") || line.starts_with("dataset_info")
    };
    if !front.lines().any(is_read) {
        return Ok(Card::default());
    }
    let front = front_matter::read(front)?;
    let described = front.dataset_info.0.into_iter().map(Description::classes);
    Ok(Card {
        configs: front.configs.unwrap_or_default().into_iter().map(config).collect(),
        described: Described(described.collect()),
    })
}

fn config(written: front_matter::Config) -> Config {
    let directory = written.data_dir.filter(|directory| !directory.is_empty());
    Config {
        name: written.config_name,
        default: written.default,
        directory: directory.map(|directory| directory.trim_matches(['.', '/']).to_owned()),
        splits: written.data_files.map(|files| files.0),
        settings: written.others,
        classes: features::classes(written.features, "configs"),
    }
}

impl Card {
    /// The classes that the card names for the columns of the configuration `wanted`.
    pub(super) fn classes(&self, wanted: &str) -> Vec<NamedClasses> {
        let config = self.configs.iter().find(|config| config.name == wanted);
        let own = config.map_or(&[][..], |config| &config.classes);
        [own, &self.described.of(wanted, !self.configs.is_empty())].concat()
    }
}

/// The configuration named `wanted`, or the default one.
pub(super) fn choose<'a>(configs: &'a [Config], wanted: &str) -> Result<&'a Config, String> {
    let named = |name: &str| configs.iter().find(|config| config.name == name);
    let found = match (wanted, configs) {
        ("", [only]) => Some(only),
        ("", _) => configs.iter().find(|config| config.default).or_else(|| named(DEFAULT_CONFIG)),
        (wanted, _) => named(wanted),
    };
    found.ok_or_else(|| {
        let there: Vec<String> = configs.iter().map(|config| config.name.clone()).collect();
        match wanted {
            "" => format!("which `config`? There are {}", excerpt(&there)),
            _ => format!("there is no configuration `{wanted}`; there are {}", excerpt(&there)),
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
pub(super) fn expand(splits: &SplitPatterns, files: &[String]) -> Result<Splits, String> {
    let letters = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
    let work = splits.values().map(|patterns| letters(patterns)).sum::<usize>();
    let count = splits.values().map(Vec::len).sum::<usize>();
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
        let card = parse(CARD).expect("YAML");
        let config = choose(&card.configs, "").expect("the only one");
        let files = ["round0/30k/test.jsonl.gz", "round0/30k/train.jsonl.gz"].map(str::to_owned);
        let splits = expand(config.splits.as_ref().expect("files"), &files).expect("few");
        assert_eq!(splits["30k_train"], ["round0/30k/train.jsonl.gz"]);
        assert_eq!(splits["330k_train"], [""; 0]);
        let crlf = CARD.replace('\n', "\r\n");
        assert_eq!(parse(&crlf).expect("YAML"), card);
        for none in ["# No front matter\nconfigs:\n- config_name: a\n", "---\n: [\n---\n", "---\n"]
        {
            assert_eq!(parse(none).expect("no files"), Card::default(), "{none}");
        }
    }

    #[test]
    fn patterns_beyond_measure_are_refused() {
        let splits = [("train".to_owned(), vec!["*a".repeat(500); 4000])].into();
        let files: Vec<_> = (0..1000).map(|file| format!("{file}.jsonl")).collect();
        let error = expand(&splits, &files).expect_err("hours of work");
        assert!(error.contains("README.md"), "{error}");
        let splits = [("train".to_owned(), vec!["*".to_owned(); MOST_PATTERNS + 1])].into();
        assert!(expand(&splits, &files[..1]).is_err());
        let splits = [("train".to_owned(), vec!["[a".to_owned()])].into();
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
            .configs
        };
        let marked = card("  default: true\n  data_files: b.jsonl\n");
        assert_eq!(choose(&marked, "").expect("marked").name, "b");
        assert_eq!(marked[1].splits, Some([("train".into(), vec!["b.jsonl".into()])].into()));
        assert_eq!(choose(&marked, "a").expect("named").directory.as_deref(), Some("x"));
        let open = card("");
        assert_eq!(choose(&open, ""), Err("which `config`? There are a, b".into()));
        assert!(choose(&open, "c").is_err_and(|error| error.contains("`c`; there are a, b")));
    }

    #[test]
    fn a_description_is_that_of_the_configuration() {
        let description = |config: &str, first: &str| {
            format!(
                "- config_name: {config}\n  features:\n  - name: label\n    dtype: {{class_label: \
                 {{names: [{first}, other]}}}}\n"
            )
        };
        let described =
            format!("dataset_info:\n{}{}", description("a", "x"), description("b", "y"));
        let names = |card: &str, config: &str| -> Vec<String> {
            let card = parse(&format!("---\n{card}---\n")).expect("YAML");
            card.classes(config)
                .into_iter()
                .map(|classes| classes.names.expect("names")[&0].clone())
                .collect()
        };
        let listed =
            format!("{described}configs:\n- config_name: a\n- config_name: b\n- config_name: c\n");
        assert_eq!(names(&listed, "a"), ["x"]);
        assert_eq!(names(&listed, "b"), ["y"]);
        assert_eq!(names(&listed, "c"), [""; 0]);
        // A configuration may describe its columns itself.
        assert_eq!(names(&format!("configs:\n{}", description("a", "z")), "a"), ["z"]);
        // Without configurations, both may be meant.
        assert_eq!(names(&described, DEFAULT_CONFIG), ["x", "y"]);
        assert_eq!(names(&described, "a"), ["x"]);
        assert_eq!(names(&described.replace("name: b", "name: default"), DEFAULT_CONFIG), ["y"]);
    }
}
