//! What steers a run from outside: how often it is saved, and when to stop.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{Error, Result};

/// How often a training stage is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// After so many optimiser steps.
    Steps(u64),
    /// When so much time has gone by.
    Time(Duration),
}

impl Default for Every {
    fn default() -> Self {
        Self::Time(Duration::from_secs(600))
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || {
            format!(
                "`{text}`: write steps, such as 200, or a time, such as 90s, 10m or 2h, above 0"
            )
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let count: u64 = digits.parse().ok().filter(|count| *count > 0).ok_or_else(rule)?;
        let seconds = match &text[digits.len()..] {
            "" => return Ok(Self::Steps(count)),
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(rule()),
        };
        count.checked_mul(seconds).map(Duration::from_secs).map(Self::Time).ok_or_else(rule)
    }
}

impl Every {
    /// At the end of a stage, what took less than this is rather done again than saved.
    const WORTH_KEEPING: Duration = Duration::from_secs(10);

    /// Whether to save after step `done` of `total`, `since` the last time.
    pub(crate) fn due(self, done: u64, total: u64, since: Duration) -> bool {
        let due = match self {
            Self::Steps(steps) => done.is_multiple_of(steps),
            Self::Time(time) => since >= time,
        };
        due || (done == total && since >= Self::WORTH_KEEPING)
    }
}

/// Steers a run.
#[derive(Clone, Copy, Debug)]
pub struct Control<'a> {
    /// How often a training stage is saved.
    pub every: Every,
    /// Set when the process was asked to stop: it saves at the next step and gives up.
    pub asked: &'a AtomicBool,
    /// Set when another part of the experiment failed.
    pub(crate) failed: &'a AtomicBool,
}

impl<'a> Control<'a> {
    /// Saves as often as `every` says; stops when `asked` is set.
    pub fn new(every: Every, asked: &'a AtomicBool) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { every, asked, failed: &NEVER }
    }

    /// Whether to stop, for whatever reason.
    pub fn stops(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Fails if it is time to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stops() { Err(Error::Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_they_are_typed() {
        assert_eq!("200".parse(), Ok(Every::Steps(200)));
        assert_eq!("90s".parse(), Ok(Every::Time(Duration::from_secs(90))));
        assert_eq!("10m".parse(), Ok(Every::Time(Duration::from_secs(600))));
        assert_eq!("2h".parse(), Ok(Every::Time(Duration::from_secs(7200))));
        for wrong in ["", "0", "0m", "m", "-1", "1.5m", "10 m", "1d", "99999999999999999999"] {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_little_a_stage_ends_with_is_not_saved() {
        let short = Duration::from_secs(1);
        assert!(Every::Steps(5).due(10, 12, short) && !Every::Steps(5).due(12, 12, short));
        let time = Every::Time(Duration::from_secs(600));
        assert!(!time.due(12, 12, short) && time.due(12, 12, Duration::from_secs(11)));
        assert!(!time.due(11, 12, Duration::from_secs(11)));
    }
}
