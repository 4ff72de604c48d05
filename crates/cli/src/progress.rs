//! Progress of a run: a bar on a terminal, otherwise a line every ten seconds.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use vxf_report::RunId;
use vxf_run::{Access, Progress};

use crate::error::CommandError;
use crate::output::tell;

/// Interval between lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Reports progress on stderr.
pub(crate) struct Reporter {
    bar: ProgressBar,
    /// Time of the last line; `None` on a terminal.
    plain: Option<Mutex<Instant>>,
}

impl Reporter {
    /// A bar if stderr is a terminal outside of CI, otherwise lines.
    pub(crate) fn new() -> Self {
        let terminal = stderr().is_terminal() && std::env::var_os("CI").is_none();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let plain = (!terminal).then(|| Mutex::new(Instant::now()));
        Self { bar, plain }
    }

    fn line(&self) -> String {
        format!(
            "{}/{} steps, {:.0} steps/s, {} s left",
            self.bar.position(),
            self.bar.length().unwrap_or(0),
            self.bar.per_sec(),
            self.bar.eta().as_secs()
        )
    }
}

impl Progress for Reporter {
    fn begin(&self, steps: u64) {
        self.bar.set_length(steps);
        self.bar.reset();
        if self.plain.is_some() {
            tell(&format!("{steps} steps to take"));
            return;
        }
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        let template = "{bar:30} {pos}/{len} steps  {rate}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, to: &mut dyn Write| {
                // If writing fails, the rate is left out.
                let _ = write!(to, "{:.0} steps/s", state.per_sec());
            };
            self.bar.set_style(style.with_key("rate", rate));
        }
    }

    fn run(&self, run: &RunId) {
        self.bar.set_message(run.to_string());
    }

    fn step(&self, _loss: Option<f64>) {
        self.bar.inc(1);
        let Some(Ok(mut last)) = self.plain.as_ref().map(Mutex::lock) else { return };
        if last.elapsed() >= INTERVAL {
            *last = Instant::now();
            tell(&self.line());
        }
    }

    fn note(&self, text: &str) {
        match self.plain {
            Some(_) => tell(text),
            None => self.bar.suspend(|| tell(text)),
        }
    }

    fn end(&self) {
        if self.plain.is_some() {
            tell(&format!(
                "{} steps in {:.0} s",
                self.bar.position(),
                self.bar.elapsed().as_secs_f64()
            ));
        }
        self.bar.finish_and_clear();
    }
}

/// Access to models and data that reports downloads, notes and warnings.
pub(crate) fn access(offline: bool) -> Result<Access, CommandError> {
    let access = Access::new(offline)?.with_progress(Box::new(downloads()));
    Ok(access.with_notes(Box::new(tell)))
}

/// Reports each download at its first and last byte, and at intervals between.
fn downloads() -> impl Fn(&str, u64, u64) + Send + Sync {
    let last = Mutex::new(None::<(String, Instant)>);
    move |file, done, total| {
        let Ok(mut last) = last.lock() else { return };
        let known =
            last.as_ref().is_some_and(|(known, at)| known == file && at.elapsed() < INTERVAL);
        if known && done < total {
            return;
        }
        *last = Some((file.to_owned(), Instant::now()));
        const MIB: f64 = 1024.0 * 1024.0;
        tell(&format!("{file}: {:.1} of {:.1} MiB", done as f64 / MIB, total as f64 / MIB));
    }
}
