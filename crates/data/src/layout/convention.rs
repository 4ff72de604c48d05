//! Splits by file name, for data sets without a card: the rules of Python's `datasets`.
//!
//! In order: numbered shards (`train-00000-of-00002.parquet`), directories named after a split, files
//! named after a split, otherwise a single file, which is `train`. One difference: where `datasets`
//! would concatenate files that are not marked as shards, they are separate splits here, or an error.

use super::described::INFOS;
use super::{Splits, excerpt};
use crate::files::Format;

/// Files that are not data.
const METADATA: [&str; 7] = [
    "README.md",
    "config.json",
    "dataset_info.json",
    INFOS,
    "dataset_dict.json",
    "state.json",
    "dummy_data.zip",
];

/// The keywords of each split.
const KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Whether a file is metadata or hidden.
pub(super) fn is_metadata(file: &str) -> bool {
    METADATA.contains(&name_of(file))
        || file.split('/').any(|part| part.starts_with('.') || part.starts_with("__"))
}

/// The splits of the files in `directory`; an empty name means all files.
pub(super) fn splits(files: &[String], directory: &str) -> Result<Splits, String> {
    let prefix = match directory.trim_matches('/') {
        "" => String::new(),
        directory => find(files, directory)? + "/",
    };
    let there: Vec<&String> = files.iter().filter(|file| file.starts_with(&prefix)).collect();
    let data: Vec<&String> = there
        .iter()
        .copied()
        .filter(|file| !is_metadata(file) && Format::of(name_of(file)).is_some())
        .collect();
    // Beside files of other formats, tables are notes or indices.
    let is_table =
        |file: &&String| matches!(Format::of(name_of(file)), Some(Format::Csv | Format::Tsv));
    let data = match data.iter().all(is_table) {
        true => data,
        false => data.into_iter().filter(|file| !is_table(file)).collect(),
    };
    if data.is_empty() {
        let there: Vec<String> = there.into_iter().cloned().collect();
        return Err(match there.is_empty() {
            true => "the directory is empty".to_owned(),
            false if there.iter().any(|file| file.ends_with(".arrow")) => {
                format!("{} is there: {}", excerpt(&there), crate::files::unreadable("data.arrow"))
            }
            false => {
                format!("no .jsonl, .json, .csv or .parquet file is there, but {}", excerpt(&there))
            }
        });
    }
    let inner = |file: &str| file[prefix.len()..].to_owned();
    let sharded = group(&data, |file| shard(&inner(file)).into_iter().collect());
    if !sharded.is_empty() {
        return Ok(sharded);
    }
    let directories = group(&data, |file| {
        let file = inner(file);
        let Some((parents, _)) = file.rsplit_once('/') else { return Vec::new() };
        named(|word| parents.split('/').any(|part| has_word(part, word, true)))
    });
    if !directories.is_empty() {
        return Ok(directories);
    }
    let mut named = group(&data, |file| named(|word| has_word(name_of(file), word, false)));
    if named.is_empty() {
        named = match &data[..] {
            [only] => [("train".to_owned(), vec![(*only).clone()])].into(),
            several => group(several, |file| vec![stem(file).to_owned()]),
        };
    }
    named.values().try_for_each(|files| one_directory(files)).map(|()| named)
}

fn group(files: &[&String], splits_of: impl Fn(&str) -> Vec<String>) -> Splits {
    let mut splits = Splits::new();
    for file in files {
        for split in splits_of(file) {
            splits.entry(split).or_default().push((*file).clone());
        }
    }
    splits.values_mut().for_each(|files| files.sort());
    splits
}

/// The splits of which a keyword occurs.
fn named(is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let found = KEYWORDS.iter().filter(|(_, words)| words.iter().any(|word| is_there(word)));
    found.map(|(split, _)| (*split).to_owned()).collect()
}

/// The split of a numbered shard, such as `data/train-00000-of-00002.parquet`.
fn shard(file: &str) -> Option<String> {
    let name = file.strip_prefix("data/").unwrap_or(file);
    let (split, rest) = name.split_once("-of-").and_then(|(before, total)| {
        let (split, number) = before.rsplit_once('-')?;
        (number.len() == 5 && is_number(number)).then_some((split, total))
    })?;
    let total = rest.get(..5)?;
    let word = |part: &str| part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    (is_number(total) && !split.is_empty() && word(split)).then(|| split.to_owned())
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a word occurs in a name, delimited by its ends or any of `-._ 0-9`.
fn has_word(name: &str, word: &str, may_end: bool) -> bool {
    let parts = |c: char| matches!(c, '-' | '.' | '_' | ' ' | '0'..='9');
    name.match_indices(word).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + word.len()..].chars().next();
        before.is_none_or(parts) && after.map_or(may_end, parts)
    })
}

/// Checks that files which form a split only by their names are in one directory.
fn one_directory(files: &[String]) -> Result<(), String> {
    let mut directories: Vec<String> =
        files.iter().map(|file| directory_of(file).unwrap_or_else(|| ".".to_owned())).collect();
    directories.dedup();
    match directories.len() {
        0 | 1 => Ok(()),
        _ => Err(format!(
            "files of one name lie in several directories; say which with `config`: {}",
            excerpt(&directories)
        )),
    }
}

/// The directory with this path, or the only one with this name.
fn find(files: &[String], directory: &str) -> Result<String, String> {
    let prefix = format!("{directory}/");
    if files.iter().any(|file| file.starts_with(&prefix)) {
        return Ok(directory.to_owned());
    }
    let mut others: Vec<String> = files.iter().filter_map(|file| directory_of(file)).collect();
    others.sort();
    others.dedup();
    let found: Vec<&String> = others.iter().filter(|other| name_of(other) == directory).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        _ => Err(format!(
            "there is no configuration or directory `{directory}`; there are {}",
            match others.is_empty() {
                true => "none".to_owned(),
                false => excerpt(&others),
            }
        )),
    }
}

fn directory_of(file: &str) -> Option<String> {
    file.rsplit_once('/').map(|(directory, _)| directory.to_owned())
}

pub(super) fn name_of(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(_, name)| name)
}

/// The name without its extensions.
pub(super) fn stem(file: &str) -> &str {
    let name = name_of(file);
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
