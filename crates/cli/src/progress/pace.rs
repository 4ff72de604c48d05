//! How fast steps and answers are made, and how long the rest of them takes.

use std::collections::HashMap;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use vxf_report::RunId;

/// A kind of work that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Optimiser steps.
    Steps,
    /// Answers.
    Answers,
}

/// So many of a kind of work tell its speed.
const ENOUGH: u64 = 3;

/// Counts work of several threads.
#[derive(Default)]
pub(super) struct Pace {
    steps: Count,
    answers: Count,
    /// When each thread last reported, and what it was doing.
    threads: HashMap<ThreadId, Last>,
}

struct Last {
    at: Instant,
    work: Work,
    run: RunId,
    done: u64,
}

#[derive(Default)]
struct Count {
    done: u64,
    all: u64,
    /// How many were timed, and how long they took one thread.
    timed: u64,
    time: Duration,
}

impl Count {
    fn left(&self) -> u64 {
        self.all.saturating_sub(self.done)
    }

    /// Seconds for one, on one thread.
    fn seconds(&self) -> Option<f64> {
        (self.timed >= ENOUGH).then(|| self.time.as_secs_f64() / self.timed as f64)
    }
}

impl Pace {
    /// So much of a kind of work remains.
    pub(super) fn left(&mut self, work: Work, count: u64) {
        let known = self.of(work);
        known.all = known.done + count;
    }

    /// This thread has done `done` units of its current phase of `run`.
    pub(super) fn done(&mut self, work: Work, run: &RunId, done: u64) {
        self.done_at(std::thread::current().id(), Instant::now(), work, run, done);
    }

    fn done_at(&mut self, thread: ThreadId, at: Instant, work: Work, run: &RunId, done: u64) {
        let last = Last { at, work, run: run.clone(), done };
        let before = self.threads.insert(thread, last);
        // Of a phase that has just begun, the time since the last report is not its own: a model was loaded.
        let same = before.filter(|last| last.work == work && last.run == *run && last.done < done);
        let count = self.of(work);
        match same {
            Some(last) => {
                count.done += done - last.done;
                count.timed += done - last.done;
                count.time += at.saturating_duration_since(last.at);
            }
            // Steps count from the last checkpoint; answers come in batches.
            None => count.done += if work == Work::Answers { done } else { 1 },
        }
    }

    fn of(&mut self, work: Work) -> &mut Count {
        match work {
            Work::Steps => &mut self.steps,
            Work::Answers => &mut self.answers,
        }
    }

    /// How much of a kind of work is done.
    pub(super) fn count(&self, work: Work) -> u64 {
        match work {
            Work::Steps => self.steps.done,
            Work::Answers => self.answers.done,
        }
    }

    /// How fast a kind of work goes on one thread.
    pub(super) fn speed(&self, work: Work) -> Option<String> {
        let (count, unit) = match work {
            Work::Steps => (&self.steps, "step"),
            Work::Answers => (&self.answers, "answer"),
        };
        let seconds = count.seconds()?;
        Some(match seconds {
            s if s > 1.0 => format!("{s:.1} s/{unit}"),
            s if s > 0.1 => format!("{:.1} {unit}s/s", 1.0 / s),
            s if s > 0.0 => format!("{:.0} {unit}s/s", 1.0 / s),
            _ => return None,
        })
    }

    /// Seconds that the rest takes. It is a lower bound while one kind of work has not been timed.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let threads = self.threads.len().max(1) as f64;
        let of = |count: &Count| count.seconds().map(|seconds| seconds * count.left() as f64);
        match (of(&self.steps), of(&self.answers)) {
            (None, None) => None,
            (steps, answers) => Some((steps.unwrap_or(0.0) + answers.unwrap_or(0.0)) / threads),
        }
    }

    /// The same in words.
    pub(super) fn time_left(&self) -> Option<String> {
        let seconds = self.seconds_left()?;
        let unknown = |count: &Count| count.left() > 0 && count.seconds().is_none();
        let bound = unknown(&self.steps) || unknown(&self.answers);
        let least = if bound { "more than " } else { "" };
        Some(format!("{least}{} left", words(seconds)))
    }
}

fn words(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_includes_answers_and_says_when_it_is_a_bound() {
        let run = RunId { label: "sft".into(), ratio: None, seed: 1, axes: Vec::new() };
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let thread = std::thread::current().id();
        pace.left(Work::Steps, 10);
        pace.left(Work::Answers, 20);
        assert_eq!((pace.speed(Work::Steps), pace.time_left()), (None, None));
        for step in 1..=10u64 {
            let at = begun + Duration::from_secs(4 * step);
            pace.done_at(thread, at, Work::Steps, &run, step);
            if step == 5 {
                assert_eq!(pace.speed(Work::Steps).as_deref(), Some("4.0 s/step"));
                assert_eq!(pace.time_left().as_deref(), Some("more than 20 s left"));
            }
        }
        // The first answers come after the model was loaded: that time is not theirs.
        for (after, done) in [(100, 4), (102, 8)] {
            let at = begun + Duration::from_secs(after);
            pace.done_at(thread, at, Work::Answers, &run, done);
        }
        assert_eq!(pace.speed(Work::Answers).as_deref(), Some("2.0 answers/s"));
        assert_eq!(pace.time_left().as_deref(), Some("6 s left"));
        assert_eq!(pace.count(Work::Steps), 10);
        assert_eq!(words(5400.0), "1.5 h");
    }
}
