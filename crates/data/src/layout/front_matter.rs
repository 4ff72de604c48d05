//! The YAML front matter of a data set's card, as far as it lists files and names classes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::features::{Descriptions, Feature};
use super::settings::Setting;

/// The maximum number of YAML events; the card of two thousand languages has about a hundred thousand.
const MOST_EVENTS: usize = 500_000;

/// The maximum nesting depth.
const DEEPEST: usize = 32;

/// The maximum number of values that all aliases expand to.
const MOST_REPEATED: usize = 10_000;

/// The part of the front matter that is read.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FrontMatter {
    #[serde(default)]
    pub(super) configs: Option<Vec<Config>>,
    #[serde(default)]
    pub(super) dataset_info: Descriptions,
}

/// A configuration as written.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default = "default_name")]
    pub(super) config_name: String,
    #[serde(default)]
    pub(super) default: bool,
    #[serde(default)]
    pub(super) data_dir: Option<String>,
    #[serde(default)]
    pub(super) data_files: Option<DataFiles>,
    #[serde(default)]
    pub(super) features: Option<Vec<Feature>>,
    /// Every other key, most of which are settings of the reader.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Setting>,
}

fn default_name() -> String {
    "default".to_owned()
}

/// Splits with their patterns, in order; entries without a split belong to `train`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataFiles(pub(super) Vec<(String, Vec<String>)>);

/// Parses the front matter in `yaml`.
///
/// # Errors
/// Says what is wrong, and in which line.
pub(super) fn read(yaml: &str) -> Result<FrontMatter, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: MOST_EVENTS,
            max_nodes: MOST_EVENTS,
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_anchors: MOST_REPEATED,
            max_aliases: MOST_REPEATED,
            max_recorded_anchor_events: MOST_REPEATED,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_REPEATED },
        // A configuration may be named `no` or `null`.
        null_as_string: true,
        strict_booleans: true,
        with_snippet: false,
    };
    let read: Result<Option<FrontMatter>, _> = serde_saphyr::from_str_with_options(yaml, options);
    read.map(Option::unwrap_or_default).map_err(|error| error.to_string())
}

impl<'de> Deserialize<'de> for DataFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Splits;
        impl<'de> Visitor<'de> for Splits {
            type Value = DataFiles;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file, a list of files, or the files of each split")
            }

            fn visit_str<E>(self, pattern: &str) -> Result<DataFiles, E> {
                Ok(DataFiles(vec![train(vec![pattern.to_owned()])]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<DataFiles, A::Error> {
                let (mut splits, mut rest) = (Vec::new(), Vec::new());
                while let Some(item) = items.next_element()? {
                    match item {
                        Item::Pattern(pattern) => rest.push(pattern),
                        Item::Split(SplitFiles { split, path }) => splits.push((split, path.0)),
                    }
                }
                match (splits.is_empty(), rest.is_empty()) {
                    (false, false) => {
                        Err(A::Error::custom("mixes files with a split and files without"))
                    }
                    (true, _) => Ok(DataFiles(vec![train(rest)])),
                    (false, true) => Ok(DataFiles(splits)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DataFiles, A::Error> {
                let mut splits = Vec::new();
                while let Some((split, patterns)) = map.next_entry::<String, Patterns>()? {
                    splits.push((split, patterns.0));
                }
                Ok(DataFiles(splits))
            }
        }
        deserializer.deserialize_any(Splits)
    }
}

fn train(patterns: Vec<String>) -> (String, Vec<String>) {
    (train_split(), patterns)
}

fn train_split() -> String {
    "train".to_owned()
}

/// An item of a list of files.
enum Item {
    Pattern(String),
    Split(SplitFiles),
}

#[derive(Deserialize)]
struct SplitFiles {
    #[serde(default = "train_split")]
    split: String,
    path: Patterns,
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file, or a `split` with its `path` (numbers in quotes)")
            }

            fn visit_str<E>(self, pattern: &str) -> Result<Item, E> {
                Ok(Item::Pattern(pattern.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                SplitFiles::deserialize(MapAccessDeserializer::new(map)).map(Item::Split)
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// One pattern or several.
struct Patterns(Vec<String>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Several;
        impl<'de> Visitor<'de> for Several {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file or a list of files (numbers in quotes)")
            }

            fn visit_str<E>(self, pattern: &str) -> Result<Patterns, E> {
                Ok(Patterns(vec![pattern.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some(pattern) = items.next_element()? {
                    patterns.push(pattern);
                }
                Ok(Patterns(patterns))
            }
        }
        deserializer.deserialize_any(Several)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The splits of the only configuration in `yaml`.
    fn splits(yaml: &str) -> Vec<(String, Vec<String>)> {
        let configs = read(yaml).expect(yaml).configs.expect("configurations");
        let [config] = <[Config; 1]>::try_from(configs).expect("one");
        config.data_files.expect("files").0
    }

    fn split(name: &str, patterns: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), patterns.iter().map(|pattern| (*pattern).to_owned()).collect())
    }

    #[test]
    fn every_way_to_name_files_is_read() {
        for (files, wanted) in [
            ("a.json", vec![split("train", &["a.json"])]),
            ("[a.json, 'b, c.json']", vec![split("train", &["a.json", "b, c.json"])]),
            (
                "{train: a.json, test: [b.json, c.json]}",
                vec![split("train", &["a.json"]), split("test", &["b.json", "c.json"])],
            ),
            (
                "[{split: 30k, path: a.json}, {path: [b.json]}]",
                vec![split("30k", &["a.json"]), split("train", &["b.json"])],
            ),
            // Multi-line lists, with a comment.
            (
                "[\n    a.json, # first\n    b.json,\n  ]",
                vec![split("train", &["a.json", "b.json"])],
            ),
            (
                "\n  - split: train\n    path:\n    - x/*.jsonl\n    - 'y''s.jsonl'",
                vec![split("train", &["x/*.jsonl", "y's.jsonl"])],
            ),
            // Escapes, and multi-line texts.
            (r#""caf\u00e9\x2f\"a\".json""#, vec![split("train", &["café/\"a\".json"])]),
            (">-\n    some\n    name.json", vec![split("train", &["some name.json"])]),
            ("|-\n    name.json", vec![split("train", &["name.json"])]),
            // An alias.
            (
                "{train: &files [a.json], test: *files}",
                vec![split("train", &["a.json"]), split("test", &["a.json"])],
            ),
        ] {
            let yaml = format!("configs:\n- config_name: c\n  data_files: {files}\n");
            assert_eq!(splits(&yaml), wanted, "{files}");
            // The same with the list indented.
            let yaml = yaml.replace('\n', "\n  ").replace("\n  configs", "\nconfigs");
            assert_eq!(splits(&yaml), wanted, "{files}");
        }
    }

    #[test]
    fn names_are_texts_and_the_rest_is_passed_over() {
        let yaml = "license: mit\ndataset_info:\n  features: [{name: a, dtype: int64}]\nconfigs:\n\
                    - config_name: 0123\n  default: true\n  data_dir: ./x/\n- config_name: no\n\
                    - data_files: a\nsize: 1K<n<10K\n";
        let configs = read(yaml).expect("YAML").configs.expect("configurations");
        let names: Vec<_> = configs.iter().map(|config| config.config_name.as_str()).collect();
        assert_eq!(names, ["0123", "no", "default"]);
        assert_eq!(configs.iter().map(|it| it.default).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(configs[0].data_dir.as_deref(), Some("./x/"));
        for nothing in ["", "a: 1\n", "configs:\n", "---\n"] {
            assert!(read(nothing).expect("YAML").configs.is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_meant_has_a_line() {
        for (yaml, line, says) in [
            ("configs:\n- config_name: a\n  data_files: [a\nb: c\n", 4, ""),
            ("configs:\n- config_name: a\n  data_files: 7\n", 3, "a list of files"),
            ("configs:\n- config_name: a\n  data_files: [a, {path: b}]\n", 3, "mixes files"),
            ("configs:\n- config_name: a\n  data_files:\n  - split: b\n", 4, "path"),
            ("configs:\n- config_name: a\n  default: perhaps\n", 3, "bool"),
            ("configs:\n- config_name: a\n  config_name: b\n", 3, "duplicate"),
            ("configs:\n\t- a\n", 2, ""),
        ] {
            let error = read(yaml).expect_err(yaml);
            assert!(
                error.contains(&format!("line {line}")) && error.contains(says),
                "{yaml}{error}"
            );
        }
    }

    #[test]
    fn bombs_are_refused() {
        let names = "abcdefghijkl";
        let mut aliases = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for pair in names.as_bytes().windows(2) {
            let (below, above) = (char::from(pair[0]), char::from(pair[1]));
            aliases += &format!("{above}: &{above} [{}]\n", format!("*{below},").repeat(9));
        }
        for bomb in [
            aliases + "configs:\n- data_files: *l\n",
            format!("configs:\n{}", "- ".repeat(20_000)),
            format!("configs: {}", "[".repeat(20_000)),
            format!("configs: {}", "{a: ".repeat(20_000)),
            format!("configs:\n- data_files: [{}]\n", "a,".repeat(MOST_EVENTS)),
        ] {
            let error = read(&bomb).expect_err("a bomb");
            assert!(error.len() < 1000, "{error}");
        }
    }
}
