//! Rows of CSV and TSV files.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use serde_json::Value;

use super::{At, LONGEST_ROW, Line, bytes};
use crate::{Error, Result};

/// The rows of a table; its first row names the columns.
pub(super) struct Table {
    path: PathBuf,
    reader: Reader<Limited>,
    columns: StringRecord,
    record: StringRecord,
    /// The number of bytes that may still be read for the current row.
    left: Rc<Cell<usize>>,
}

impl Table {
    pub(super) fn open(path: &Path, between: u8) -> Result<Self> {
        let left = Rc::new(Cell::new(LONGEST_ROW));
        let text = Limited { text: bytes::open(path)?, left: left.clone() };
        let mut reader = ReaderBuilder::new().delimiter(between).from_reader(text);
        let fault = |problem: String| Error::File { path: path.to_owned(), problem };
        let columns = reader.headers().map_err(|error| fault(problem(&error)))?.clone();
        let mut names: Vec<&str> = columns.iter().filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(fault(format!("two columns are called `{}`; rename one", pair[0])));
        }
        let record = StringRecord::new();
        Ok(Self { path: path.to_owned(), reader, columns, record, left })
    }
}

impl Iterator for Table {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        self.left.set(LONGEST_ROW);
        let read = self.reader.read_record(&mut self.record);
        let line = self.record.position().map_or(0, csv::Position::line);
        match read {
            Ok(false) => None,
            Ok(true) => {
                // A column without a name is the index that pandas writes.
                let cells = self.columns.iter().zip(&self.record);
                let cells = cells.filter(|(column, _)| !column.is_empty());
                let row = cells.map(|(column, cell)| (column.to_owned(), Value::from(cell)));
                Some(Ok(Line { at: At::Line(line), row: Ok(row.collect()) }))
            }
            Err(error) => match error.kind() {
                // The reader goes on after such a row.
                ErrorKind::Utf8 { .. } | ErrorKind::UnequalLengths { .. } => {
                    let line = error.position().map_or(line, csv::Position::line);
                    Some(Ok(Line { at: At::Line(line), row: Err(problem(&error)) }))
                }
                _ => {
                    let problem = problem(&error);
                    Some(Err(Error::File { path: self.path.clone(), problem }))
                }
            },
        }
    }
}

fn problem(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Utf8 { .. } => "it is not UTF-8; save the file as UTF-8".to_owned(),
        ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "it has {len} fields, and the first row names {expected_len} columns; a field with a \
             comma, a quote or a line break is written in double quotes"
        ),
        ErrorKind::Io(error) => super::io_problem(error),
        _ => error.to_string(),
    }
}

/// A text of which a limited number of bytes is read.
///
/// The csv reader grows its buffer until a row ends, so an open quote would read the whole file.
struct Limited {
    text: Box<dyn BufRead>,
    left: Rc<Cell<usize>>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        match self.left.get().checked_sub(read) {
            Some(left) => self.left.set(left),
            None => return Err(bytes::too_long()),
        }
        Ok(read)
    }
}
