//! Reads text files: decompresses gzip and zstd, and skips a byte order mark.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

use super::{LONGEST_ROW, io_problem, parse};
use crate::{Error, Result};

const BUFFER: usize = 1 << 16;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window of a zstd stream, 8 MiB, as the power of two; files for streaming need no more.
const LARGEST_WINDOW: u32 = 23;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Opens a file; its first bytes tell whether it is compressed.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let opened = || {
        let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
        let start = file.fill_buf()?;
        let mut text: Box<dyn BufRead> = if start.starts_with(&GZIP) {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
        } else if start.starts_with(&ZSTD) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        } else {
            Box::new(file)
        };
        if is_utf16(text.fill_buf()?) {
            let problem = "it is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        if text.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            text.consume(BYTE_ORDER_MARK.len());
        }
        Ok(text)
    };
    opened().map_err(|error| fault(path, 0, &error))
}

/// Whether a text begins as UTF-16 does: with its byte order mark, or with an ASCII letter in two
/// bytes.
fn is_utf16(start: &[u8]) -> bool {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, 0, second, 0, ..] | [0, first, 0, second, ..] => {
            first.is_ascii() && second.is_ascii()
        }
        _ => false,
    }
}

/// An I/O error in the middle of a file.
pub(super) fn fault(path: &Path, line: u64, error: &io::Error) -> Error {
    let problem = match line {
        0 => io_problem(error),
        line => format!("after line {line}: {}", io_problem(error)),
    };
    Error::File { path: path.to_owned(), problem }
}

/// Reads a line, without its end, into `line`; returns `false` at the end of the file.
///
/// # Errors
/// As [`io::Error`]; of kind `FileTooLarge` when the line exceeds the maximum row length.
pub(super) fn read_line(text: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&buffer[..end.unwrap_or(buffer.len())]);
        let used = end.map_or(buffer.len(), |end| end + 1);
        text.consume(used);
        if line.len() > LONGEST_ROW {
            return Err(too_long());
        }
        if end.is_some() {
            break;
        }
    }
    Ok(any)
}

/// The error for a row that exceeds the maximum length.
pub(super) fn too_long() -> io::Error {
    let text = format!("a row is longer than {} MiB", LONGEST_ROW >> 20);
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Whether a `.json` file is in JSON lines format, as many on the hub are.
///
/// If so, its first line is an object without a list `data`, which would contain the rows instead.
pub(super) fn is_lines(path: &Path) -> Result<bool> {
    let Some(line) = first_line(path)? else { return Ok(false) };
    let row = parse(&line, 1);
    Ok(row.is_ok_and(|row| !matches!(row.get("data"), Some(Value::Array(_)))))
}

/// Whether a `.jsonl` file is in fact one JSON list.
pub(super) fn is_array(path: &Path) -> Result<bool> {
    Ok(first_line(path)?.is_some_and(|line| line.trim_ascii_start().starts_with(b"[")))
}

/// The first line that is not blank; `None` if there is none, or it is too long.
fn first_line(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut text = open(path)?;
    let mut line = Vec::new();
    loop {
        match read_line(&mut *text, &mut line) {
            Ok(true) if line.trim_ascii().is_empty() => {}
            Ok(true) => return Ok(Some(line)),
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
            Err(error) => return Err(fault(path, 0, &error)),
        }
    }
}
