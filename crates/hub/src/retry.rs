//! Retries with exponential backoff.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::fault::Fault;

/// The retry policy: how often and how long to retry.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The maximum number of attempts.
    pub attempts: u32,
    /// The first delay; each further delay is twice as long.
    pub first: Duration,
    /// The maximum delay. If a server asks for more (`Retry-After`), the request fails instead,
    /// because an earlier retry would only be refused.
    pub longest: Duration,
    /// The maximum sum of delays.
    pub total: Duration,
    /// Bytes of progress in one file after which its attempts start anew, so that a long download over
    /// a bad connection succeeds as long as it makes progress.
    pub renewed_by: u64,
}

impl Default for RetryPolicy {
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

/// The attempts made and the time waited for one operation.
#[derive(Debug)]
pub(crate) struct RetryState {
    retry: RetryPolicy,
    failures: u32,
    waited: Duration,
}

impl RetryState {
    /// No attempts made yet.
    pub(crate) fn new(retry: RetryPolicy) -> Self {
        Self { retry, failures: 0, waited: Duration::ZERO }
    }

    /// Resets attempts and waiting time.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.retry);
    }

    /// Waits before a retry, or returns the error if no attempt is left or a retry would not help.
    pub(crate) fn wait_or_fail(&mut self, fault: Fault) -> Result<()> {
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

    /// Runs `attempt` until it succeeds or the policy is exhausted.
    pub(crate) fn with<T>(mut self, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T> {
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(fault) => self.wait_or_fail(fault)?,
            }
        }
    }

    fn next(&self) -> Duration {
        self.retry.first.saturating_mul(1 << self.failures.min(20))
    }
}

/// Replaces the error of a fault.
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

    fn retries(total: u64) -> RetryState {
        RetryState::new(RetryPolicy {
            attempts: 5,
            first: Duration::from_millis(1),
            longest: Duration::from_millis(4),
            total: Duration::from_millis(total),
            renewed_by: 0,
        })
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut state = retries(1000);
        for expected in [1, 3, 7, 11] {
            assert!(state.wait_or_fail(again(None)).is_ok());
            assert_eq!(state.waited, Duration::from_millis(expected));
        }
        assert!(state.wait_or_fail(again(None)).is_err(), "five attempts");
        state.reset();
        assert!(state.wait_or_fail(again(None)).is_ok());
    }

    #[test]
    fn total_and_requested_delays_are_bounded() {
        let mut short = retries(2);
        assert!(short.wait_or_fail(again(None)).is_ok());
        assert!(short.wait_or_fail(again(None)).is_err(), "1 + 2 > 2");
        assert!(
            retries(1000).wait_or_fail(again(Some(5))).is_err(),
            "longer than the longest delay"
        );
        let mut asked = retries(1000);
        assert!(asked.wait_or_fail(again(Some(3))).is_ok());
        assert_eq!(asked.waited, Duration::from_millis(3));
    }
}
