//! Signals that ask a run to save and stop.

use std::io::{IsTerminal, stdin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::error::CommandError;

/// The exit code of a process ended by Ctrl-C, as in a shell.
const EXIT_SIGINT: i32 = 130;

/// Returns a flag that SIGINT, SIGTERM and SIGUSR1 set.
///
/// Repeated SIGTERM has no further effect, because schedulers send it twice within milliseconds. A second
/// Ctrl-C ends the process at once.
pub(crate) fn watched() -> Result<Arc<AtomicBool>, CommandError> {
    let asked = Arc::new(AtomicBool::new(false));
    let fail = |error| CommandError::failed(format!("cannot listen to signals: {error}"));
    if stdin().is_terminal() {
        // Registered before the flag, so that the first Ctrl-C finds it unset.
        flag::register_conditional_shutdown(SIGINT, EXIT_SIGINT, asked.clone()).map_err(fail)?;
    }
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        flag::register(signal, asked.clone()).map_err(fail)?;
    }
    Ok(asked)
}
