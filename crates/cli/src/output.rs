//! Results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use vxf_report::{Part, Terminal};
use vxf_untrusted::printable;

use crate::EXIT_INTERRUPTED;
use crate::error::CommandError;

/// Size limit of a message in bytes; it may quote a whole damaged file.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Prints a result. A closed pipe is not an error.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    // The text may contain foreign names and answers; escape sequences in it must not reach the terminal.
    print_raw(&printable(text))
}

/// Prints a report, in colour and within the terminal's width if stdout is one.
pub(crate) fn print_report(parts: &[Part]) -> Result<(), CommandError> {
    print_raw(&terminal().text(parts))
}

/// How reports are printed: a terminal has a width, and colour unless `NO_COLOR` is set or it knows none.
pub(crate) fn terminal() -> Terminal {
    if !io::stdout().is_terminal() {
        return Terminal::default();
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let colour = set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb");
    let width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    Terminal { colour, width: width.map(|width| width.max(NARROWEST)) }
}

/// Narrower terminals get tables of this width.
const NARROWEST: usize = 40;

/// Prints a text in which foreign control characters have been replaced.
pub(crate) fn print_raw(text: &str) -> Result<(), CommandError> {
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

/// The form of messages on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Log {
    /// Text.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    /// Warnings and errors.
    Quiet,
    /// Progress and notes, too.
    #[default]
    Usual,
    /// The beginning of each run, too.
    Verbose,
}

/// Set once, before anything is said.
static SETTINGS: OnceLock<(Log, Level)> = OnceLock::new();

/// Sets the form and the amount of messages; only the first call has an effect.
pub(crate) fn set_log(log: Log, level: Level) {
    let _ = SETTINGS.set((log, level));
}

fn settings() -> (Log, Level) {
    SETTINGS.get().copied().unwrap_or_default()
}

/// The form of messages.
pub(crate) fn log() -> Log {
    settings().0
}

/// Whether only warnings and errors are said.
pub(crate) fn quiet() -> bool {
    settings().1 == Level::Quiet
}

/// Whether much is said.
pub(crate) fn verbose() -> bool {
    settings().1 == Level::Verbose
}

/// Prints a message to stderr; a quiet program says only warnings and errors.
pub(crate) fn tell(text: &str) {
    let text = shortened(text);
    let kind = match text.split_once(':') {
        Some(("error", _)) => "error",
        Some(("warning", _)) => "warning",
        _ => "note",
    };
    if !quiet() || kind != "note" {
        write_message(kind, text);
    }
}

/// The text without control characters, cut if it is far too long.
fn shortened(text: &str) -> String {
    let mut ends = (0..=LONGEST_MESSAGE.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let rest = if end < text.len() { " [...]" } else { "" };
    printable(&text[..end]) + rest
}

/// Prints why the program ends; a quiet program says this, too.
pub(crate) fn tell_end(error: &CommandError) {
    let kind = if error.code == EXIT_INTERRUPTED { "interrupted" } else { "error" };
    write_message(kind, shortened(&error.to_string()));
}

fn write_message(kind: &str, text: String) {
    let line = match log() {
        Log::Text => text,
        Log::Json => serde_json::json!({ "kind": kind, "message": text }).to_string(),
    };
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a line of progress to stderr, or the same as fields.
pub(crate) fn progress_line(text: &str, fields: impl FnOnce() -> serde_json::Value) {
    match settings() {
        (_, Level::Quiet) => {}
        (Log::Text, _) => tell(text),
        (Log::Json, _) => {
            let _ = writeln!(io::stderr().lock(), "{}", fields());
        }
    }
}

/// A number of bytes in MiB or GiB.
pub(crate) fn bytes(value: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    match value as f64 / MIB {
        mib if mib >= 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        mib => format!("{mib:.1} MiB"),
    }
}
