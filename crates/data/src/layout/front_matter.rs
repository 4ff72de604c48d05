//! The YAML front matter of a data set's card, as far as it lists files and names classes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::DEFAULT_CONFIG;
use super::features::{Descriptions, Feature};
use super::form::Form;
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
    DEFAULT_CONFIG.to_owned()
}

/// The patterns of the files of each split.
pub(super) type SplitPatterns = BTreeMap<String, Vec<String>>;

/// The entry `data_files`; files without a split belong to `train`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenFiles")]
pub(super) struct DataFiles(pub(super) SplitPatterns);

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

/// How files are written: a file, a list of items, or a mapping from splits.
type WrittenFiles = Form<Form<IgnoredAny, SplitFiles>, BTreeMap<String, Patterns>>;

#[derive(Deserialize)]
struct SplitFiles {
    #[serde(default = "train_split")]
    split: String,
    path: Patterns,
}

fn train_split() -> String {
    "train".to_owned()
}

/// One pattern or several.
#[derive(Deserialize)]
#[serde(try_from = "Form<String>")]
struct Patterns(Vec<String>);

impl TryFrom<WrittenFiles> for DataFiles {
    type Error = String;

    fn try_from(files: WrittenFiles) -> Result<Self, String> {
        match files {
            Form::Text(pattern) => Ok(Self([(train_split(), vec![pattern])].into())),
            Form::List(items) => Self::of_items(items),
            Form::Mapping(splits) => {
                let splits = splits.into_iter().map(|(split, patterns)| (split, patterns.0));
                Ok(Self(splits.collect()))
            }
            other => Err(other.instead_of("a file, a list of files, or the files of each split")),
        }
    }
}

impl DataFiles {
    fn of_items(items: Vec<Form<IgnoredAny, SplitFiles>>) -> Result<Self, String> {
        let (mut splits, mut rest) = (BTreeMap::new(), Vec::new());
        for item in items {
            match item {
                Form::Text(pattern) => rest.push(pattern),
                Form::Mapping(SplitFiles { split, path }) => _ = splits.insert(split, path.0),
                other => {
                    let expected = "a file, or a `split` with its `path` (numbers in quotes)";
                    return Err(other.instead_of(expected));
                }
            }
        }
        match (splits.is_empty(), rest.is_empty()) {
            (false, false) => Err("mixes files with a split and files without".to_owned()),
            (true, _) => Ok(Self([(train_split(), rest)].into())),
            (false, true) => Ok(Self(splits)),
        }
    }
}

impl TryFrom<Form<String>> for Patterns {
    type Error = String;

    fn try_from(patterns: Form<String>) -> Result<Self, String> {
        match patterns {
            Form::Text(pattern) => Ok(Self(vec![pattern])),
            Form::List(several) => Ok(Self(several)),
            other => Err(other.instead_of("a file or a list of files (numbers in quotes)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The splits of the only configuration in `yaml`.
    fn splits(yaml: &str) -> SplitPatterns {
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
            let wanted: SplitPatterns = wanted.into_iter().collect();
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
            (
                "configs:\n- data_files: [a, [b]]\n",
                2,
                "found a list, expected a file, or a `split`",
            ),
            ("configs:\n- data_files:\n    test: 7\n", 3, "found `7`, expected a file or a list"),
            ("configs:\n- data_files:\n    test:\n", 3, "found null, expected a file or a list"),
            ("dataset_info: 7\n", 1, "a list of descriptions"),
            ("dataset_info:\n  features:\n  - dtype: true\n", 3, "the type of a column"),
            (
                "dataset_info: {features: [{dtype: {class_label: {names: a}}}]}\n",
                1,
                "found `a`, expected the names of classes",
            ),
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
