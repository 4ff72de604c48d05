//! Signals that ask a run to stop where nothing is lost.

use std::io::{IsTerminal, stdin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::error::CommandError;

/// As a shell reports a process that Ctrl-C ended.
const EXIT_SIGINT: i32 = 130;

/// A flag that is set by SIGINT, SIGTERM and SIGUSR1.
///
/// More of them change nothing: schedulers send SIGTERM twice within milliseconds. But a second
/// Ctrl-C at a terminal comes from someone who does not want to wait, and ends the process at once.
pub(crate) fn watched() -> Result<Arc<AtomicBool>, CommandError> {
    let asked = Arc::new(AtomicBool::new(false));
    let fail = |error| CommandError::failed(format!("cannot listen to signals: {error}"));
    if stdin().is_terminal() {
        // Before the flag is registered, so that the first Ctrl-C finds it unset.
        flag::register_conditional_shutdown(SIGINT, EXIT_SIGINT, asked.clone()).map_err(fail)?;
    }
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        flag::register(signal, asked.clone()).map_err(fail)?;
    }
    Ok(asked)
}
