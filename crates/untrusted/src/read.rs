//! Bounded reads of untrusted files, and a guard for libraries that panic on damaged input.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::de::DeserializeOwned;

/// The maximum size in bytes of configurations, records and recipes.
pub const SMALL: u64 = 16 << 20;

/// The maximum size in bytes of a tokenizer or a weight index; the largest known have some 40 MiB.
pub const LARGE: u64 = 128 << 20;

/// The maximum number of values in one JSON document.
///
/// A value takes two bytes in a file and dozens in memory, so a list of a hundred million zeros is
/// refused.
const MOST_VALUES: usize = 1 << 20;

/// Reads a regular file of at most `most` bytes.
///
/// Pipes and devices, which may never end, are refused before they are opened. No more is read than
/// the file's metadata says: kernel files report a size of zero, and reading them may block.
///
/// # Errors
/// An [`io::Error`] whose message reads well after "cannot be read: ".
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.len() > most {
        return Err(too_long(most));
    }
    let read = all(File::open(path)?.take(metadata.len()), most)?;
    match crate::is_lfs_pointer(&read) {
        true => Err(io::Error::new(ErrorKind::InvalidData, crate::LFS_POINTER)),
        false => Ok(read),
    }
}

fn too_long(most: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it is longer than {} MiB", most >> 20))
}

/// Reads `source` to its end, which must come within `most` bytes.
///
/// # Errors
/// As [`bytes`].
pub fn all(source: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    source.take(most + 1).read_to_end(&mut read)?;
    match read.len() as u64 > most {
        true => Err(too_long(most)),
        false => Ok(read),
    }
}

/// Decodes UTF-8.
///
/// # Errors
/// Names the line and byte of the first invalid sequence.
pub fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let problem = format!("it is not UTF-8 (line {line}, byte {at})");
        io::Error::new(ErrorKind::InvalidData, problem)
    })
}

/// Reads the text of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`bytes`] and [`utf8`].
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    utf8(bytes(path, most)?)
}

/// Parses a JSON document with a bounded number of values, into any `T`.
///
/// # Errors
/// Says what is wrong and where, in a message that reads well after the file's name.
pub fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if has_too_many_values(text.as_bytes()) {
        return Err(format!("has more than {MOST_VALUES} values"));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => error.to_string(),
        _ => format!("is not JSON: {error}"),
    })
}

/// Whether a JSON text may hold more values than [`json`] accepts.
pub fn has_too_many_values(json: &[u8]) -> bool {
    more_than(MOST_VALUES, b",:[{", json)
}

/// Whether a JSON text may hold more than `most` objects, each of which takes hundreds of bytes.
pub fn has_more_objects_than(most: usize, json: &[u8]) -> bool {
    more_than(most, b"{", json)
}

/// Whether more than `most` of these bytes occur outside of quotes; quoted text has any length.
fn more_than(most: usize, marks: &[u8], json: &[u8]) -> bool {
    // A document this short cannot contain that many.
    if json.len() <= most {
        return false;
    }
    let (mut count, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if !quoted && marks.contains(byte) => count += 1,
            _ => {}
        }
    }
    count > most
}

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; `None` if it panicked.
///
/// For libraries that assume a valid file and panic on a damaged one. Whatever `work` was modifying
/// must not be used afterwards. The panic reaches the program's panic hook as any other; a hook that
/// should not print it asks [`is_panic_expected`].
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = EXPECTED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(outer);
    result.ok()
}

/// Whether a panic on this thread would now be caught by [`caught`].
pub fn is_panic_expected() -> bool {
    EXPECTED.get()
}

/// Escapes untrusted text for a terminal or a log, so that it cannot control it.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            // Bidirectional control characters, which can make a line read as another one.
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_bounded() {
        let error = all(io::repeat(b'a'), 1 << 20).expect_err("endless").to_string();
        assert_eq!(error, "it is longer than 1 MiB");
        assert_eq!(all(&b"ab"[..], 2).expect("two bytes"), b"ab");
        #[cfg(unix)]
        for path in ["/dev/zero", "/"] {
            let error = bytes(Path::new(path), SMALL).expect_err(path).to_string();
            assert_eq!(error, "it is not a regular file", "{path}");
        }
    }

    #[test]
    fn invalid_utf8_has_a_position() {
        let error = utf8(b"a\nb\xff".to_vec()).expect_err("no text").to_string();
        assert_eq!(error, "it is not UTF-8 (line 2, byte 3)");
    }

    #[test]
    fn the_number_of_json_values_is_limited() {
        let zeros = format!("[{}0]", "0,".repeat(MOST_VALUES + 1));
        assert!(json::<serde_json::Value>(&zeros).expect_err("too many").contains("values"));
        let commas = format!("[\"{}\\\"{}\"]", ",".repeat(MOST_VALUES), ",".repeat(MOST_VALUES));
        assert!(json::<serde_json::Value>(&commas).is_ok());
        let error = json::<serde_json::Value>("{\n\"a\" 1}").expect_err("no JSON");
        assert!(error.starts_with("is not JSON: ") && error.contains("line 2"), "{error}");
        let error = json::<Vec<u8>>("[1,\n300]").expect_err("no byte");
        assert!(error.contains("300") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn panics_become_none() {
        assert_eq!(caught(|| 1), Some(1));
        assert_eq!(caught(|| -> u8 { panic!("as expected") }), None);
        // Nested, and after a caught panic.
        assert_eq!(caught(|| caught(|| -> u8 { panic!("as expected") })), Some(None));
    }

    #[test]
    fn control_characters_are_escaped() {
        let shown = printable("one\n\ttwo \u{1b}[2J\r\u{9b}three\u{202e}");
        assert_eq!(shown, "one\n\ttwo \u{fffd}[2J\u{fffd}\u{fffd}three\u{fffd}");
    }
}
