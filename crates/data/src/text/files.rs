//! Reads the files of a model directory and records which were read.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vxf_untrusted::LARGE;

use super::TextError;
use crate::Result;

/// The files of a directory, and which of them were read.
pub(super) struct Files {
    directory: PathBuf,
    read: Vec<PathBuf>,
}

impl Files {
    /// # Errors
    /// When the directory does not exist.
    pub(super) fn of(directory: &Path) -> Result<Self> {
        match directory.is_dir() {
            true => Ok(Self { directory: directory.to_owned(), read: Vec::new() }),
            false => Err(TextError::file(
                directory,
                "no such directory; a model directory holds tokenizer.json beside config.json",
            )),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.directory.join(name).is_file()
    }

    /// The path of a file; records it as read.
    pub(super) fn path(&mut self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        if !self.read.contains(&path) {
            self.read.push(path.clone());
        }
        path
    }

    /// The text of a file; `None` if it does not exist.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>> {
        if !self.has(name) {
            return Ok(None);
        }
        let path = self.path(name);
        let text = vxf_untrusted::text(&path, LARGE);
        text.map(Some).map_err(|error| TextError::file(&path, format!("cannot be read: {error}")))
    }

    /// A file as JSON; `null` if it does not exist.
    pub(super) fn json(&mut self, name: &str) -> Result<Value> {
        let Some(text) = self.text(name)? else { return Ok(Value::Null) };
        let parsed = vxf_untrusted::json(&text);
        parsed.map_err(|problem| TextError::file(&self.directory.join(name), problem))
    }

    /// A file as a JSON object; empty if it does not exist.
    pub(super) fn object(&mut self, name: &str) -> Result<Map<String, Value>> {
        match self.json(name)? {
            Value::Object(object) => Ok(object),
            Value::Null => Ok(Map::new()),
            _ => Err(TextError::file(&self.directory.join(name), "is not an object of keys")),
        }
    }

    /// All files that were read, in the order of reading.
    pub(super) fn read(self) -> Vec<PathBuf> {
        self.read
    }
}
