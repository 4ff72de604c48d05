//! Results on stdout, everything else on stderr.

use std::io::{self, Write};

use vxf_untrusted::printable;

use crate::error::CommandError;

/// Size limit of a message in bytes; it may quote a whole damaged file.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Prints a result. A closed pipe is not an error.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    // The text may contain foreign names and answers; escape sequences in it must not reach the terminal.
    match stdout.write_all(printable(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::failed(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON value.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| CommandError::failed(error.to_string()))?;
    print(&(text + "\n"))
}

/// Prints a message to stderr.
pub(crate) fn tell(text: &str) {
    let mut ends = (0..=LONGEST_MESSAGE.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let rest = if end < text.len() { " [...]" } else { "" };
    let text = printable(&text[..end]) + rest;
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A number of bytes in MiB or GiB.
pub(crate) fn bytes(value: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    match value as f64 / MIB {
        mib if mib >= 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        mib => format!("{mib:.1} MiB"),
    }
}
