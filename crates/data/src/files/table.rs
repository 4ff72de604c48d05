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
        let quotes = Quotes { between, state: State::Start, line: 1, opened: 1 };
        let text = Limited { text: bytes::open(path)?, left: left.clone(), quotes, ended: false };
        let mut reader = ReaderBuilder::new().delimiter(between).from_reader(text);
        let fault = |problem: String| Error::File { path: path.to_owned(), problem };
        let columns = reader.headers().map_err(|error| problem(&error)).cloned();
        let columns = match reader.get_ref().unclosed() {
            Some(problem) => return Err(fault(problem)),
            None => columns.map_err(fault)?,
        };
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
        if let Some(problem) = self.reader.get_ref().unclosed() {
            return Some(Err(Error::File { path: self.path.clone(), problem }));
        }
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
/// The csv reader grows its buffer until a row ends, so an open quote would read the whole file. At the
/// end of the file it closes a quote in silence.
struct Limited {
    text: Box<dyn BufRead>,
    left: Rc<Cell<usize>>,
    quotes: Quotes,
    /// Whether no more bytes are read: the file ends, or the row is too long.
    ended: bool,
}

impl Limited {
    /// The problem of a row that ends inside quotes.
    fn unclosed(&self) -> Option<String> {
        let Quotes { state, opened, .. } = &self.quotes;
        (self.ended && *state == State::Quoted).then(|| {
            let ends = match self.left.get() {
                0 => format!("a row of more than {} MiB is", LONGEST_ROW >> 20),
                _ => "the file ends".to_owned(),
            };
            format!(
                "{ends} inside the quotes that open in line {opened}; is the file complete? A quote \
                 that opens no field is written twice, in a field in double quotes"
            )
        })
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        self.ended = read == 0;
        buffer[..read].iter().for_each(|byte| self.quotes.pass(*byte));
        match self.left.get().checked_sub(read) {
            Some(left) => self.left.set(left),
            None => {
                self.left.set(0);
                self.ended = true;
                return Err(bytes::too_long());
            }
        }
        Ok(read)
    }
}

/// Where the quotes of a table are, by the rules of the csv reader.
struct Quotes {
    /// The byte between fields.
    between: u8,
    state: State,
    /// The current line, from 1.
    line: u64,
    /// The line of the last quote that opened a field.
    opened: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a field.
    Start,
    /// In a field without quotes, or after its closing quote.
    Bare,
    Quoted,
    /// After a quote in a quoted field: it closes the field, or is the first of two.
    Closing,
}

impl Quotes {
    fn pass(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Closing,
            (State::Quoted, _) | (State::Closing, b'"') => State::Quoted,
            (State::Start, b'"') => {
                self.opened = self.line;
                State::Quoted
            }
            (_, b'\n' | b'\r') => State::Start,
            (_, byte) if byte == self.between => State::Start,
            _ => State::Bare,
        };
        self.line += u64::from(byte == b'\n');
    }
}
