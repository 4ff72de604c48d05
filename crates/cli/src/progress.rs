//! Progress of a run on stderr: one line that fits a terminal, otherwise a line every ten seconds.

mod pace;

use std::io::{IsTerminal, stderr, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use vxf_access::Access;
use vxf_report::RunId;
use vxf_report::layout::verb;
use vxf_run::Progress;
use vxf_run::execute::{Doing, Phase};

use crate::error::CommandError;
use crate::output::{Log, log, progress_line, quiet, tell, verbose};
use pace::{Pace, Work};

/// Interval between lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Interval between changes of a terminal's line.
const REFRESH: Duration = Duration::from_millis(80);

/// How long a terminal's line is about one run, where several are executed at once.
const TURN: Duration = Duration::from_secs(2);

/// How soon Ctrl-C is answered.
const PATIENCE: Duration = Duration::from_millis(50);

/// Reports progress on stderr.
pub(crate) struct Reporter {
    bar: ProgressBar,
    terminal: bool,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

struct State {
    pace: Pace,
    /// When the last line was shown.
    shown: Option<Instant>,
    /// The run that a terminal's line is about, and since when.
    about: Option<(RunId, Instant)>,
    begun: Instant,
}

impl State {
    /// Whether a terminal's line may be about this run now: of several at once, each is shown for a while.
    fn turns_to(&mut self, run: &RunId) -> bool {
        match &self.about {
            Some((shown, _)) if shown == run => true,
            Some((_, since)) if since.elapsed() < TURN => false,
            _ => {
                self.about = Some((run.clone(), Instant::now()));
                true
            }
        }
    }
}

impl Reporter {
    /// A line that changes if stderr is a terminal outside of CI, otherwise many lines. Answers at once when
    /// `asked` is set.
    pub(crate) fn new(asked: Arc<AtomicBool>) -> Self {
        let shown = stderr().is_terminal() && std::env::var_os("CI").is_none();
        let terminal = shown && log() == Log::Text && !quiet();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let state =
            State { pace: Pace::default(), shown: None, about: None, begun: Instant::now() };
        let reporter = Self {
            bar,
            terminal,
            state: Arc::new(Mutex::new(state)),
            ended: Arc::new(AtomicBool::new(false)),
        };
        let (bar, ended) = (reporter.bar.clone(), reporter.ended.clone());
        // Detached: it ends with the reporter or with the process.
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if asked.load(Ordering::Relaxed) {
                    let again = if stdin().is_terminal() { AGAIN } else { "" };
                    bar.suspend(|| tell(&format!("{STOPPING}{again}")));
                    return;
                }
                std::thread::sleep(PATIENCE);
            }
        });
        reporter
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said to a first Ctrl-C, and to other signals that ask to stop.
const STOPPING: &str = "stopping after this step; everything is kept";

/// What a second Ctrl-C does.
const AGAIN: &str = " (press Ctrl-C again to stop now)";

impl Drop for Reporter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Progress for Reporter {
    fn answers(&self, count: u64) {
        self.state().pace.left(Work::Answers, count);
    }

    fn begin(&self, steps: u64) {
        let mut state = self.state();
        state.pace.left(Work::Steps, steps);
        state.begun = Instant::now();
        if !self.terminal {
            tell(&format!("{steps} steps to take"));
            state.shown = Some(Instant::now());
            return;
        }
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        // Cut to the terminal's width, so that no remains are left of a longer line.
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            self.bar.set_style(style);
        }
    }

    fn run(&self, run: &RunId) {
        if verbose() {
            self.note(&format!("{run}: begins"));
        }
    }

    fn step(&self, _loss: Option<f64>) {}

    fn doing(&self, doing: Doing<'_>) {
        let mut state = self.state();
        let work = match doing.phase {
            Phase::Training { .. } => Work::Steps,
            Phase::Answering { .. } => Work::Answers,
        };
        state.pace.done(work, doing.run, doing.done);
        let interval = if self.terminal { REFRESH } else { INTERVAL };
        if state.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        if self.terminal && !state.turns_to(doing.run) {
            return;
        }
        state.shown = Some(Instant::now());
        let line = line(&doing, &state.pace);
        match self.terminal {
            true => self.bar.set_message(line),
            false => progress_line(&line, || fields(&doing, &state.pace)),
        }
    }

    fn note(&self, text: &str) {
        match self.terminal {
            true => self.bar.suspend(|| tell(text)),
            false => tell(text),
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.bar.finish_and_clear();
        let state = self.state();
        if !self.terminal {
            let (steps, seconds) = (state.pace.count(Work::Steps), state.begun.elapsed());
            let seconds = seconds.as_secs_f64();
            tell(&match steps {
                // Workers took them, or there were none.
                0 => format!("done in {seconds:.0} s"),
                _ => format!("{steps} steps in {seconds:.0} s"),
            });
        }
    }
}

/// What a run is doing, how fast, and how long everything will take.
fn line(doing: &Doing<'_>, pace: &Pace) -> String {
    let Doing { run, phase, done, total } = *doing;
    let ratio = run.ratio.map_or(String::new(), |ratio| format!(" p={ratio}"));
    let name = format!("{}{ratio} seed {}", run.row(), run.seed);
    let (what, work, loss) = match phase {
        Phase::Training { stage, loss } => (format!("{} {name}", verb(stage)), Work::Steps, loss),
        Phase::Answering { set } => {
            (format!("asking {set} prompts of {name}"), Work::Answers, None)
        }
    };
    let mut parts = vec![format!("{what} {done}/{total}")];
    parts.extend(pace.speed(work));
    parts.extend(loss.map(|loss| format!("loss {loss:.3}")));
    parts.extend(pace.time_left());
    parts.join(" · ")
}

/// The same for programs.
fn fields(doing: &Doing<'_>, pace: &Pace) -> serde_json::Value {
    let Doing { run, phase, done, total } = *doing;
    let (phase, of, loss) = match phase {
        Phase::Training { stage, loss } => ("training", stage.to_string(), loss),
        Phase::Answering { set } => ("answering", set.to_owned(), None),
    };
    json!({
        "kind": "progress", "run": run.path(), "phase": phase, "of": of, "done": done, "total": total,
        "loss": loss, "seconds_left": pace.seconds_left(),
    })
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

#[cfg(test)]
mod tests {
    use vxf_core::Stage;

    use super::*;

    fn run() -> RunId {
        RunId { label: "vaccine".into(), ratio: Some(0.2), seed: 1, axes: Vec::new() }
    }

    #[test]
    fn a_line_says_what_is_done_how_far_and_how_long() {
        let (run, mut pace) = (run(), Pace::default());
        pace.left(Work::Steps, 160);
        pace.left(Work::Answers, 24);
        let aligned = RunId { ratio: None, ..run.clone() };
        let training = Phase::Training { stage: Stage::Alignment, loss: Some(0.3123) };
        let doing = Doing { run: &aligned, phase: training, done: 12, total: 160 };
        let shown = line(&doing, &pace);
        assert!(shown.starts_with("aligning vaccine seed 1 12/160 · loss 0.312"), "{shown}");
        let answering = Phase::Answering { set: "harmful" };
        let doing = Doing { run: &run, phase: answering, done: 7, total: 24 };
        let shown = line(&doing, &pace);
        assert!(
            shown.starts_with("asking harmful prompts of vaccine p=0.2 seed 1 7/24"),
            "{shown}"
        );
        assert_eq!(fields(&doing, &pace)["phase"], "answering");
    }
}
