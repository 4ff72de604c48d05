//! Settings of the reader in a configuration of a card: those of Python's `datasets`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::form::Form;
use crate::files::{Format, Reader};

/// The value of a setting, as a text: lists and mappings are not told apart, as none is supported.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Form")]
pub(super) struct Setting(String);

/// How YAML writes the absence of a value.
const NULL: &str = "null";

/// Settings of which no value changes what is read here.
const HARMLESS: [&str; 20] = [
    "batch_size",
    "block_size",
    "chunksize",
    "description",
    "drop_labels",
    "drop_metadata",
    "engine",
    "float_precision",
    "fragment_scan_options",
    // Every cell of a table is a text here, also `NA`.
    "keep_default_na",
    "low_memory",
    "mangle_dupe_cols",
    "memory_map",
    "metadata_filenames",
    "na_filter",
    "newlines_in_values",
    "use_threads",
    "verbose",
    "version",
    "warn_bad_lines",
];

/// Settings that change what is read, each with the values that do not.
const CHANGING: [(&str, &[&str]); 35] = [
    ("column_names", &[]),
    ("columns", &[]),
    ("comment", &[]),
    ("converters", &[]),
    ("date_format", &[]),
    ("decimal", &["."]),
    ("dialect", &[]),
    ("doublequote", &["true"]),
    // Every cell is read as a text.
    ("dtype", &["str", "string", "object"]),
    ("encoding", &["utf-8", "utf8", "utf-8-sig", "utf8-sig", "ascii", "us-ascii"]),
    ("encoding_errors", &["strict"]),
    ("error_bad_lines", &["true"]),
    ("escapechar", &[]),
    ("false_values", &[]),
    ("filters", &[]),
    ("header", &["infer", "0"]),
    ("index_col", &["false"]),
    ("keep_linebreaks", &["false"]),
    ("lineterminator", &["\n"]),
    ("na_values", &[]),
    ("names", &[]),
    ("nrows", &[]),
    ("on_bad_files", &["error"]),
    ("on_bad_lines", &["error"]),
    ("prefix", &[]),
    ("quotechar", &["\""]),
    ("quoting", &["0", "1", "2"]),
    ("sample_by", &["line"]),
    ("skip_blank_lines", &["true"]),
    ("skipfooter", &["0"]),
    ("skipinitialspace", &["false"]),
    ("skiprows", &["0"]),
    ("thousands", &[]),
    ("true_values", &[]),
    ("usecols", &[]),
];

/// The settings of a configuration for the reader of its files.
pub(super) type ReaderSettings = BTreeMap<String, Setting>;

/// How to read files of this format with these settings, and the keys that are unknown.
///
/// # Errors
/// Names a setting that would change what is read and is not supported.
pub(super) fn reader(
    settings: &ReaderSettings,
    format: Option<Format>,
) -> Result<(Reader, Vec<String>), String> {
    let (mut reader, mut unknown) = (Reader::default(), Vec::new());
    for (key, Setting(value)) in settings {
        // Without a header there are no names, so its absence is a setting.
        let is_unset = value == NULL && key != "header";
        if is_unset || HARMLESS.contains(&key.as_str()) {
            continue;
        }
        match key.as_str() {
            "field" => reader.field = Some(field(value, format)?),
            "sep" | "delimiter" => {
                let byte = separator(key, value, format)?;
                if reader.separator.is_some_and(|other| other != byte) {
                    return Err("`sep` and `delimiter` differ; remove one".to_owned());
                }
                reader.separator = Some(byte);
            }
            key => match CHANGING.iter().find(|(known, _)| *known == key) {
                Some((_, usual)) if usual.contains(&value.as_str()) => {}
                // Python's names of encodings are alike in capitals and with either dash.
                Some(("encoding", usual))
                    if usual.contains(&&*value.to_lowercase().replace('_', "-")) => {}
                Some(_) => return Err(format!("`{key}` ({value}) is not supported")),
                None => unknown.push(key.to_owned()),
            },
        }
    }
    Ok((reader, unknown))
}

/// The key of the list of rows, in a JSON document.
fn field(value: &str, format: Option<Format>) -> Result<String, String> {
    match format {
        Some(Format::Json | Format::Lines) => Ok(value.to_owned()),
        _ => Err(format!("`field` ({value}) is for .json files, which these are not")),
    }
}

/// The byte between the fields of a table.
fn separator(key: &str, value: &str, format: Option<Format>) -> Result<u8, String> {
    if !matches!(format, Some(Format::Csv | Format::Tsv)) {
        return Err(format!("`{key}` ({value}) is for .csv and .tsv files, which these are not"));
    }
    match value.as_bytes() {
        // The regular expression of a tabulator.
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err(format!("`{key}` ({value}) must be one character of ASCII and no quote")),
    }
}

impl From<Form> for Setting {
    fn from(form: Form) -> Self {
        Self(form.shown().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::front_matter;
    use super::*;

    /// What the settings in `yaml` say about files of this format.
    fn read(yaml: &str, format: Format) -> Result<(Reader, Vec<String>), String> {
        let yaml = format!("configs:\n- data_files: a\n  {yaml}\n");
        let configs = front_matter::read(&yaml).expect(&yaml).configs.expect("configurations");
        reader(&configs[0].others, Some(format))
    }

    #[test]
    fn settings_are_used_or_change_nothing() {
        let separated = |byte| Reader { separator: Some(byte), field: None };
        for (yaml, byte) in [
            ("sep: \";\"", b';'),
            ("sep: ;", b';'),
            ("delimiter: \"\\t\"", b'\t'),
            ("sep: \\t", b'\t'),
            ("sep: '|'\n  delimiter: '|'", b'|'),
        ] {
            assert_eq!(read(yaml, Format::Csv), Ok((separated(byte), vec![])), "{yaml}");
        }
        let field = Reader { field: Some("rows".into()), separator: None };
        assert_eq!(read("field: rows", Format::Json), Ok((field, vec![])));
        for yaml in [
            "header: 0",
            "header: infer",
            "quoting: 0",
            "names: null",
            "skiprows: ~",
            "encoding: utf-8",
            "doublequote: true",
            "drop_labels: true\n  version: 1.0.0\n  description: {a: [b]}",
        ] {
            assert_eq!(read(yaml, Format::Csv), Ok((Reader::default(), vec![])), "{yaml}");
        }
        let unknown = read("new_thing: [1]\n  other: 5", Format::Csv);
        assert_eq!(unknown, Ok((Reader::default(), vec!["new_thing".into(), "other".into()])));
    }

    #[test]
    fn settings_that_are_not_supported_are_refused() {
        for (yaml, format, says) in [
            ("names: [a, b]", Format::Csv, "`names` (a list)"),
            ("column_names: [a, b]", Format::Csv, "`column_names`"),
            ("header: null", Format::Csv, "`header` (null)"),
            ("header: 1", Format::Csv, "`header` (1)"),
            ("quoting: 3", Format::Tsv, "`quoting` (3)"),
            ("skiprows: 1", Format::Csv, "`skiprows` (1)"),
            ("encoding: latin-1", Format::Csv, "`encoding` (latin-1)"),
            ("sep: ', '", Format::Csv, "`sep`"),
            ("sep: é", Format::Csv, "`sep`"),
            ("sep: ;\n  delimiter: '|'", Format::Csv, "`sep` and `delimiter` differ"),
            ("sep: ;", Format::Lines, "`sep` (;) is for .csv"),
            ("field: rows", Format::Parquet, "`field` (rows) is for .json"),
        ] {
            let error = read(yaml, format).expect_err(yaml);
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }

    #[test]
    fn the_lists_are_sorted() {
        assert!(HARMLESS.is_sorted());
        assert!(CHANGING.is_sorted_by_key(|(key, _)| *key));
    }
}
