//! Waiting between attempts, ever longer, and not for ever.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::fault::Fault;

/// How long to keep trying.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How often something is tried in all.
    pub attempts: u32,
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    /// The longest single wait. A server that asks for more (`Retry-After`) gets an error instead:
    /// coming back too early would only be refused again.
    pub longest: Duration,
    /// The longest sum of waits.
    pub total: Duration,
    /// Bytes of one file after which its attempts start anew: a long download on a bad line is no
    /// failure as long as it gets on.
    pub renewed_by: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            total: Duration::from_secs(180),
            renewed_by: 64 << 20,
        }
    }
}

/// What is left of the attempts at one thing.
#[derive(Debug)]
pub(crate) struct Patience {
    retry: Retry,
    failures: u32,
    waited: Duration,
}

impl Patience {
    /// All of it.
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, failures: 0, waited: Duration::ZERO }
    }

    /// All of it again.
    pub(crate) fn renew(&mut self) {
        *self = Self::new(self.retry);
    }

    /// Waits, or returns the error if nothing is left or another attempt would not help.
    pub(crate) fn after(&mut self, fault: Fault) -> Result<()> {
        let (error, asked) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Again(error, asked) => (error, asked),
        };
        let wait = asked.unwrap_or_else(|| self.next().min(self.retry.longest));
        self.failures += 1;
        if self.failures >= self.retry.attempts
            || wait > self.retry.longest
            || self.waited + wait > self.retry.total
        {
            return Err(error);
        }
        self.waited += wait;
        std::thread::sleep(wait);
        Ok(())
    }

    /// Tries until it works or patience is at an end.
    pub(crate) fn with<T>(mut self, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T> {
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(fault) => self.after(fault)?,
            }
        }
    }

    fn next(&self) -> Duration {
        self.retry.first.saturating_mul(1 << self.failures.min(20))
    }
}

/// Puts another error in the place of the one that was given up on.
pub(crate) fn renamed(fault: Fault, name: impl FnOnce(Error) -> Error) -> Fault {
    match fault {
        Fault::Final(error) => Fault::Final(name(error)),
        Fault::Again(error, wait) => Fault::Again(name(error), wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(wait: Option<u64>) -> Fault {
        let error = Error::Setting { name: "X", problem: String::new() };
        Fault::Again(error, wait.map(Duration::from_millis))
    }

    fn patience(total: u64) -> Patience {
        Patience::new(Retry {
            attempts: 5,
            first: Duration::from_millis(1),
            longest: Duration::from_millis(4),
            total: Duration::from_millis(total),
            renewed_by: 0,
        })
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut patience = patience(1000);
        for expected in [1, 3, 7, 11] {
            assert!(patience.after(again(None)).is_ok());
            assert_eq!(patience.waited, Duration::from_millis(expected));
        }
        assert!(patience.after(again(None)).is_err(), "five attempts");
        patience.renew();
        assert!(patience.after(again(None)).is_ok());
    }

    #[test]
    fn sums_and_wishes_are_bounded() {
        let mut short = patience(2);
        assert!(short.after(again(None)).is_ok());
        assert!(short.after(again(None)).is_err(), "1 + 2 > 2");
        assert!(patience(1000).after(again(Some(5))).is_err(), "longer than the longest wait");
        let mut asked = patience(1000);
        assert!(asked.after(again(Some(3))).is_ok());
        assert_eq!(asked.waited, Duration::from_millis(3));
    }
}
