//! Rows of one JSON document: a list of objects, or an object with a list `data`, or with the list
//! that the card of the data set names.
//!
//! The document is split into rows by its brackets, and each row is parsed on its own. So only one
//! row is in memory, and an invalid row has a position and does not affect the others.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use super::{At, LONGEST_ROW, Line, bytes, parse};
use crate::{Error, Result};

/// The usual key of the list of rows.
const DATA: &str = "data";

/// The rows of a document.
pub(super) struct Document {
    path: PathBuf,
    text: Box<dyn BufRead>,
    /// The current line, from 1.
    line: u64,
    buffer: Vec<u8>,
    rows: u64,
    /// The key of the list of rows, if the document is an object.
    field: String,
    /// Whether the document itself is the list, rather than an object that contains it.
    whole: bool,
    state: State,
}

/// The reader's position in the document.
#[derive(PartialEq, Eq)]
enum State {
    /// Within the list of rows.
    Rows,
    /// After the list.
    Closed,
    /// At the end.
    Done,
}

/// Why reading stopped.
enum Fault {
    /// An I/O error.
    Io(io::Error),
    /// The document has another form.
    Form(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Cut<T> = std::result::Result<T, Fault>;

impl Document {
    /// Opens a document and moves to its rows.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut document = Self::start(path, DATA)?;
        document.find_rows(true).map_err(|fault| document.error(fault))?;
        Ok(document)
    }

    /// Opens a document that is an object, and moves to the rows in its list `field`.
    pub(super) fn open_field(path: &Path, field: &str) -> Result<Self> {
        let mut document = Self::start(path, field)?;
        document.find_rows(false).map_err(|fault| document.error(fault))?;
        Ok(document)
    }

    fn start(path: &Path, field: &str) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            text: bytes::open(path)?,
            line: 1,
            buffer: Vec::new(),
            rows: 0,
            field: field.to_owned(),
            whole: true,
            state: State::Rows,
        })
    }

    fn error(&self, fault: Fault) -> Error {
        match fault {
            Fault::Io(error) => bytes::fault(&self.path, self.line, &error),
            Fault::Form(problem) => {
                let path = self.path.clone();
                Error::File { path, problem: format!("line {}: {problem}", self.line) }
            }
        }
    }

    /// The next byte that is not white space, without consuming it.
    fn peek(&mut self) -> Cut<Option<u8>> {
        loop {
            let buffer = self.text.fill_buf()?;
            let Some(first) = buffer.first().copied() else { return Ok(None) };
            if !first.is_ascii_whitespace() {
                return Ok(Some(first));
            }
            self.line += u64::from(first == b'\n');
            self.text.consume(1);
        }
    }

    fn expect(&mut self, wanted: &str, found: Option<u8>) -> Fault {
        match found {
            Some(byte) => {
                let byte = char::from(byte).escape_default();
                Fault::Form(format!("expected {wanted}, found `{byte}` (after {} rows)", self.rows))
            }
            None => Fault::Form(format!(
                "the file ends where {wanted} is expected (after {} rows); is it complete?",
                self.rows
            )),
        }
    }

    /// Moves to the first row of the list.
    fn find_rows(&mut self, may_be_whole: bool) -> Cut<()> {
        let whole = match self.peek()? {
            Some(b'[') if may_be_whole => true,
            Some(b'{') => false,
            other if !may_be_whole => {
                let wanted = format!("an object with the list `{}` of README.md", self.field);
                return Err(self.expect(&wanted, other));
            }
            other => return Err(self.expect("a list of objects", other)),
        };
        self.text.consume(1);
        if !whole {
            self.find_field()?;
        }
        self.whole = whole;
        if self.peek()? == Some(b']') {
            self.close();
        }
        Ok(())
    }

    /// Moves into the list of rows of the object.
    fn find_field(&mut self) -> Cut<()> {
        let mut keys = Vec::new();
        loop {
            if self.peek()? == Some(b'}') {
                break;
            }
            let key = self.key()?;
            if self.peek()? == Some(b'[') && key == self.field {
                self.text.consume(1);
                return Ok(());
            }
            self.value()?;
            keys.push(key);
            match self.peek()? {
                Some(b',') => self.text.consume(1),
                Some(b'}') => {}
                other => return Err(self.expect("`,` or `}`", other)),
            }
        }
        keys.truncate(20);
        Err(Fault::Form(format!(
            "an object must hold its rows in a list `{}`; this one has {}",
            self.field,
            match keys.is_empty() {
                true => "nothing".to_owned(),
                false => keys.join(", "),
            }
        )))
    }

    /// The next key of an object, with its colon.
    fn key(&mut self) -> Cut<String> {
        match self.peek()? {
            Some(b'"') => self.value()?,
            other => return Err(self.expect("a key", other)),
        }
        let key = serde_json::from_slice(&self.buffer)
            .map_err(|error| Fault::Form(format!("not a key: {error}")))?;
        match self.peek()? {
            Some(b':') => self.text.consume(1),
            other => return Err(self.expect("`:`", other)),
        }
        Ok(key)
    }

    /// Copies the next value, delimited by brackets and quotes.
    fn value(&mut self) -> Cut<()> {
        self.buffer.clear();
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        loop {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                return Err(self.expect("the end of a value", None));
            }
            let mut used = 0;
            let mut complete = false;
            for &byte in buffer {
                // The byte that ends a bare word belongs to the surrounding value.
                if depth == 0 && !quoted && matches!(byte, b',' | b':' | b']' | b'}') {
                    complete = true;
                    break;
                }
                used += 1;
                self.line += u64::from(byte == b'\n');
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    _ if quoted => {}
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth -= 1,
                    _ => {}
                }
                complete = depth == 0 && !quoted && matches!(byte, b'"' | b']' | b'}');
                if complete {
                    break;
                }
            }
            self.buffer.extend_from_slice(&buffer[..used]);
            self.text.consume(used);
            if self.buffer.len() > LONGEST_ROW {
                return Err(bytes::too_long().into());
            }
            if complete {
                return Ok(());
            }
        }
    }

    fn row(&mut self) -> Cut<Line> {
        self.peek()?;
        let line = self.line;
        self.value()?;
        self.rows += 1;
        let row = parse(&self.buffer, line);
        match self.peek()? {
            Some(b',') => self.text.consume(1),
            Some(b']') => self.close(),
            other => return Err(self.expect("`,` or `]`", other)),
        }
        Ok(Line { at: At::Line(line), row })
    }

    fn close(&mut self) {
        self.text.consume(1);
        self.state = State::Closed;
    }

    /// Checks that the document ends after the list, so that part of a file is not taken for all of it.
    fn end(&mut self) -> Cut<()> {
        let mut open = !self.whole;
        while open {
            match self.peek()? {
                Some(b',') => {
                    self.text.consume(1);
                    if self.key()? == self.field {
                        let field = &self.field;
                        return Err(Fault::Form(format!("a second `{field}` follows the first")));
                    }
                    self.peek()?;
                    self.value()?;
                }
                Some(b'}') => {
                    self.text.consume(1);
                    open = false;
                }
                other => return Err(self.expect("`,` or `}`", other)),
            }
        }
        match self.peek()? {
            Some(_) => {
                Err(Fault::Form(format!("something follows the list of {} rows", self.rows)))
            }
            None => Ok(()),
        }
    }
}

impl Iterator for Document {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        let next = match self.state {
            State::Rows => self.row().map(Some),
            State::Closed => self.end().map(|()| None),
            State::Done => return None,
        };
        if !matches!(next, Ok(Some(_))) {
            self.state = State::Done;
        }
        next.map_err(|fault| self.error(fault)).transpose()
    }
}
