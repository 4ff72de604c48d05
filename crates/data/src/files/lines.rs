//! JSON lines.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::{At, Line, bytes, parse};
use crate::Result;

/// The rows of a file with one object per line. Blank lines are skipped.
pub(super) struct Lines {
    path: PathBuf,
    text: Box<dyn BufRead>,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let text = bytes::open(path)?;
        Ok(Self { path: path.to_owned(), text, line: 0, buffer: Vec::new() })
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        loop {
            match bytes::read_line(&mut *self.text, &mut self.buffer) {
                Ok(true) => self.line += 1,
                Ok(false) => return None,
                Err(error) => return Some(Err(bytes::fault(&self.path, self.line, &error))),
            }
            let line = self.buffer.trim_ascii();
            if !line.is_empty() {
                return Some(Ok(Line { at: At::Line(self.line), row: parse(line, self.line) }));
            }
        }
    }
}
