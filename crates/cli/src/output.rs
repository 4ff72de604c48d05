//! Results on stdout, everything else on stderr.

use std::io::{self, Write};

use crate::error::CommandError;

/// Prints a result. That nobody reads on (a closed pipe) is no failure.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
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
    // Nowhere to complain if stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
