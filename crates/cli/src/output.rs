//! Results on stdout, everything else on stderr.

use std::io::{self, Write};

use vxf_untrusted::printable;

use crate::error::CommandError;

/// Bytes of one message; a damaged file may be quoted in it as a whole.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Prints a result. That nobody reads on (a closed pipe) is no failure.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    // Names and answers in it may come from anywhere, and must not steer a terminal.
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

/// Tells the user something that is no result.
pub(crate) fn tell(text: &str) {
    let mut ends = (0..=LONGEST_MESSAGE.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let rest = if end < text.len() { " [...]" } else { "" };
    let text = printable(&text[..end]) + rest;
    // Nowhere to complain if stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A number of bytes, in a unit that suits it.
pub(crate) fn bytes(value: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    match value as f64 / MIB {
        mib if mib >= 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        mib => format!("{mib:.1} MiB"),
    }
}
