//! Rows of data files: JSON lines, JSON documents, CSV and Parquet, all but the last also
//! compressed.
//!
//! A file is read as a stream with bounded memory: one row, or one batch of each column. Sizes that
//! a file claims are checked before anything is allocated for them.

mod bytes;
mod classes;
mod document;
mod fault;
mod lines;
mod parquet;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vxf_untrusted::{has_more_objects_than, has_too_many_values};

pub(crate) use classes::{Description, NamedClasses};

use crate::{Error, Result};

/// One row: its columns by name, in the file's order.
pub(crate) type Row = serde_json::Map<String, Value>;

/// The maximum length of a row in bytes, decompressed.
pub(crate) const LONGEST_ROW: usize = 64 << 20;

/// The maximum number of objects in a row, such as the turns of a conversation.
const MOST_OBJECTS: usize = 1 << 13;

/// The position of a row in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// The line in which it begins, from 1.
    Line(u64),
    /// The number of the row, from 1; for files without lines.
    Row(u64),
}

/// A row's file and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub file: PathBuf,
    /// The position in the file.
    pub at: At,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            At::Line(line) => write!(f, "{}:{line}", self.file.display()),
            At::Row(row) => write!(f, "{}, row {row}", self.file.display()),
        }
    }
}

/// A row as read from a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Its position.
    pub at: At,
    /// Its columns, or why it is invalid; the next row may be valid.
    pub row: std::result::Result<Row, String>,
}

/// How files are read, where the card of a data set decides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reader {
    /// The key of the list of rows in a JSON document; `data` if it is not set.
    pub(crate) field: Option<String>,
    /// The byte between the fields of a table; that of its format if it is not set.
    pub(crate) separator: Option<u8>,
}

/// The rows of a file, in order. After an error the iterator ends.
pub(crate) struct Rows {
    /// The classes that the file names.
    pub(crate) classes: Vec<NamedClasses>,
    rows: Box<dyn Iterator<Item = Result<Line>>>,
    done: bool,
}

impl Rows {
    /// Opens `path`, whose name gives its format: `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` or
    /// `.parquet`; all but the last also with `.gz` or `.zst`.
    ///
    /// # Errors
    /// When it cannot be read, is empty, or has another format.
    pub(crate) fn open(path: &Path, reader: &Reader) -> Result<Self> {
        let fault = |problem: String| Error::File { path: path.to_owned(), problem };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(format) = Format::of(&name) else { return Err(fault(unreadable(&name))) };
        let length = path.metadata().map_err(|error| fault(io_problem(&error)))?.len();
        if length == 0 {
            return Err(fault("the file is empty".to_owned()));
        }
        vxf_untrusted::no_lfs_pointer(path).map_err(fault)?;
        let table = |usual: u8| table::Table::open(path, reader.separator.unwrap_or(usual));
        let mut classes = Vec::new();
        let rows: Box<dyn Iterator<Item = Result<Line>>> = match (format, &reader.field) {
            (Format::Parquet, _) => {
                let rows = parquet::Parquet::open(path)?;
                classes = rows.classes();
                Box::new(rows)
            }
            (Format::Csv, _) => Box::new(table(b',')?),
            (Format::Tsv, _) => Box::new(table(b'\t')?),
            (Format::Json | Format::Lines, Some(field)) => {
                Box::new(document::Document::open_field(path, field)?)
            }
            (Format::Json, None) if !bytes::is_lines(path)? => {
                Box::new(document::Document::open(path)?)
            }
            (Format::Lines, None) if bytes::is_array(path)? => {
                Box::new(document::Document::open(path)?)
            }
            (Format::Json | Format::Lines, None) => Box::new(lines::Lines::open(path)?),
        };
        Ok(Self { classes, rows, done: false })
    }
}

impl Iterator for Rows {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        if self.done {
            return None;
        }
        let next = self.rows.next();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The format that a file's name gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    /// JSON, one object per line.
    Lines,
    /// JSON, one document.
    Json,
    /// Parquet.
    Parquet,
    /// A table of fields between commas, the first row with the names of the columns.
    Csv,
    /// A table of fields between tabulators.
    Tsv,
}

impl Format {
    /// The format of a file with this name, if it is supported.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let inner = [".gz", ".zst"].into_iter().find_map(|end| name.strip_suffix(end));
        let inner = inner.unwrap_or(&name);
        match inner.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Some(Self::Lines),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "parquet" if inner == name => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// Why a file with this name is not supported, and what to do.
pub(crate) fn unreadable(name: &str) -> String {
    let end = name.rsplit_once('.').map_or("no ending", |(_, end)| end);
    let hint = match end {
        "arrow" => {
            return "a directory of `save_to_disk` is not supported; convert it with: python -c \
                    \"from datasets import load_from_disk as l; \
                    l('DIRECTORY').to_json('DIRECTORY.jsonl')\""
                .to_owned();
        }
        "txt" | "xlsx" | "ods" => "convert it to JSON lines",
        "xz" | "bz2" | "zip" | "tar" | "br" => "unpack it",
        _ => "rename it if it is one of these",
    };
    format!(
        "files with `{end}` are not supported; {hint} (.jsonl, .json, .csv, .tsv, .parquet; also \
         .jsonl.gz and .jsonl.zst)"
    )
}

/// The text of an I/O error.
pub(crate) fn io_problem(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Parses the bytes of one row as an object.
///
/// Errors name the line within the row if it has several, counted from `first`.
fn parse(bytes: &[u8], first: u64) -> std::result::Result<Row, String> {
    if has_too_many_values(bytes) {
        return Err("the row has too many values".to_owned());
    }
    if has_more_objects_than(MOST_OBJECTS, bytes) {
        return Err(format!("the row has more than {MOST_OBJECTS} objects"));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err(format!(
            "a row is an object such as {{\"prompt\": \"..\", \"completion\": \"..\"}}, not {}",
            kind(&other)
        )),
        Err(error) => {
            let text = error.to_string();
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            let line = first + (error.line() as u64).saturating_sub(1);
            let place = match line == first {
                true => format!("column {}", error.column()),
                false => format!("line {line}, column {}", error.column()),
            };
            let remedy = fault::remedy(bytes).map_or(String::new(), |remedy| format!("; {remedy}"));
            Err(format!("not JSON: {text} ({place}){remedy}"))
        }
    }
}

/// The type of a value, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
