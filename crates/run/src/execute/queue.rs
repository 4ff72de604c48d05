//! A work queue shared by several threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue of jobs in which a finished job can add further jobs.
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    waiting: VecDeque<J>,
    under_way: usize,
    closed: bool,
}

/// A job taken from the queue. If it is dropped before [`Claimed::done`], the queue is closed, because its
/// follow-up jobs will never come.
pub(crate) struct Claimed<'a, J> {
    queue: &'a Queue<J>,
    /// The job.
    pub(crate) job: J,
    done: bool,
}

impl<J> Queue<J> {
    pub(crate) fn new(jobs: impl IntoIterator<Item = J>) -> Self {
        let waiting = jobs.into_iter().collect();
        let state = State { waiting, under_way: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The next job; waits while running jobs may still add some. `None` when there will be no more.
    pub(crate) fn next(&self) -> Option<Claimed<'_, J>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                state.under_way += 1;
                return Some(Claimed { queue: self, job, done: false });
            }
            if state.under_way == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing that runs under the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Claimed<'_, J> {
    /// Marks the job as done; `further` jobs go to the front of the queue.
    pub(crate) fn done(mut self, further: Vec<J>) {
        self.done = true;
        let mut state = self.queue.lock();
        state.under_way -= 1;
        for job in further.into_iter().rev() {
            state.waiting.push_front(job);
        }
        drop(state);
        self.queue.changed.notify_all();
    }
}

impl<J> Drop for Claimed<'_, J> {
    fn drop(&mut self) {
        if !self.done {
            self.queue.lock().closed = true;
            self.queue.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::Queue;

    /// A job of n adds n jobs of n - 1; each is executed exactly once.
    #[test]
    fn every_follow_up_job_is_executed_once() {
        let queue = Queue::new([3_usize, 2]);
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(claimed) = queue.next() {
                        let n = claimed.job;
                        done.lock().expect("no panic").push(n);
                        claimed.done(vec![n.saturating_sub(1); n]);
                    }
                });
            }
        });
        let done = done.into_inner().expect("no panic");
        let count = |n| done.iter().filter(|&&job| job == n).count();
        assert_eq!([count(3), count(2), count(1), count(0)], [1, 4, 8, 8]);
    }

    /// Follow-up jobs go before waiting jobs, in their order.
    #[test]
    fn follow_up_jobs_come_before_waiting_jobs() {
        let queue = Queue::new(["a", "b"]);
        let claimed = queue.next().expect("a");
        claimed.done(vec!["a1", "a2"]);
        let mut order = Vec::new();
        while let Some(claimed) = queue.next() {
            order.push(claimed.job);
            claimed.done(Vec::new());
        }
        assert_eq!(order, ["a1", "a2", "b"]);
    }

    /// A thread that waits for another one's follow-up jobs is released when that one fails.
    #[test]
    fn a_dropped_job_ends_the_waiting() {
        let queue = Queue::new([()]);
        let claimed = queue.next().expect("a job");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.next().is_none());
            drop(claimed);
            assert!(waiting.join().expect("no panic"));
        });
    }
}
