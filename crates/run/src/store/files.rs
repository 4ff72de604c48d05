//! Reading and writing JSON and JSON lines.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vxf_untrusted::LARGE;

use crate::{Error, Result};

/// Size limit of a file of answers in bytes.
const MOST_ANSWERS: u64 = 1 << 30;

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = vxf_untrusted::text(path, LARGE).map_err(Error::io("read", path))?;
    vxf_untrusted::json(&text).map_err(|problem| Error::Unreadable { place: show(path), problem })
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Reads a file of JSON lines.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = vxf_untrusted::text(path, MOST_ANSWERS).map_err(Error::io("read", path))?;
    let row = |(index, line): (usize, &str)| {
        vxf_untrusted::json(line).map_err(|problem| {
            // Each line is parsed separately, so the parser always reports line 1.
            let problem = problem.replace(" at line 1 column ", " at column ");
            Error::Unreadable { place: format!("{}:{}", show(path), index + 1), problem }
        })
    };
    text.lines().enumerate().map(row).collect()
}

/// Serializes values as JSON lines, for the file at `path`.
pub(crate) fn lines<T: Serialize>(path: &Path, values: &[T]) -> Result<String> {
    let record = |source| Error::Record { path: path.to_owned(), source };
    let mut text = String::new();
    for value in values {
        text.push_str(&serde_json::to_string(value).map_err(record)?);
        text.push('\n');
    }
    Ok(text)
}

/// Serializes a value as indented JSON, for the file at `path`.
pub(crate) fn pretty(path: &Path, value: &impl Serialize) -> Result<String> {
    let record = |source| Error::Record { path: path.to_owned(), source };
    Ok(serde_json::to_string_pretty(value).map_err(record)? + "\n")
}
