//! Control of a running experiment: how often to save, and when to stop.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{Error, Result};

/// How often to save a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// After this many optimiser steps.
    Steps(u64),
    /// After this much time.
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

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

impl Every {
    /// Near the end of a stage, work shorter than this is not worth a checkpoint.
    const WORTH_KEEPING: Duration = Duration::from_secs(10);

    /// Whether to save after step `done` of `total`; `since` is the time since the last save.
    pub(crate) fn due(self, done: u64, total: u64, since: Duration) -> bool {
        let due = match self {
            Self::Steps(steps) => done.is_multiple_of(steps),
            Self::Time(time) => since >= time,
        };
        due || (done == total && since >= Self::WORTH_KEEPING)
    }
}

/// Controls a running experiment.
#[derive(Clone, Copy, Debug)]
pub struct Control<'a> {
    /// How often to save a checkpoint.
    pub every: Every,
    /// Set when the process is asked to stop: training saves at the next step and ends.
    pub asked: &'a AtomicBool,
    /// Set when another thread of the experiment failed.
    pub(crate) failed: &'a AtomicBool,
}

impl<'a> Control<'a> {
    /// Saves as often as `every` says and stops when `asked` is set.
    pub fn new(every: Every, asked: &'a AtomicBool) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { every, asked, failed: &NEVER }
    }

    /// Whether to stop, for any reason.
    pub fn stops(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Returns an error if it is time to stop.
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
        for text in ["200", "90s"] {
            assert_eq!(text.parse::<Every>().map(|every| every.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["", "0", "0m", "m", "-1", "1.5m", "10 m", "1d", "99999999999999999999"] {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn short_work_at_the_end_of_a_stage_is_not_saved() {
        let short = Duration::from_secs(1);
        assert!(Every::Steps(5).due(10, 12, short) && !Every::Steps(5).due(12, 12, short));
        let time = Every::Time(Duration::from_secs(600));
        assert!(!time.due(12, 12, short) && time.due(12, 12, Duration::from_secs(11)));
        assert!(!time.due(11, 12, Duration::from_secs(11)));
    }
}
