//! Heartbeats of the workers, which show that each of them still makes progress.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Asks all workers for a sign of life and keeps their answers.
#[derive(Debug, Default)]
pub struct WorkerHeartbeats {
    question: watch::Sender<u64>,
    /// The last answers. A worker that has ended is not reported.
    answers: Mutex<Vec<Weak<AtomicU64>>>,
}

impl WorkerHeartbeats {
    /// Registers a worker. The returned future answers each question of
    /// [`WorkerHeartbeats::check`], as long as the runtime that polls it makes progress.
    pub fn respond(&self) -> impl Future<Output = ()> + 'static {
        let answer = Arc::new(AtomicU64::new(*self.question.borrow()));
        self.answers.lock().push(Arc::downgrade(&answer));
        let mut question = self.question.subscribe();
        async move {
            while question.changed().await.is_ok() {
                answer.store(*question.borrow_and_update(), Relaxed);
            }
        }
    }

    /// Returns the number of workers that have not answered the last question, and asks the next
    /// one.
    pub fn check(&self) -> usize {
        let asked = *self.question.borrow();
        let mut silent = 0;
        self.answers.lock().retain(|answer| {
            let answer = answer.upgrade();
            let is_silent = answer
                .as_ref()
                .is_some_and(|answer| answer.load(Relaxed) != asked);
            silent += usize::from(is_silent);
            answer.is_some()
        });
        self.question.send_replace(asked + 1);
        silent
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_hangs_is_missed_and_one_that_lives_is_not() {
        let heartbeats = WorkerHeartbeats::default();
        let (alive, _hangs) = (heartbeats.respond(), heartbeats.respond());
        let tasks = TaskTracker::new();
        let alive = tasks.spawn(alive);
        assert_eq!(heartbeats.check(), 0, "nobody was asked before");
        for _ in 0..3 {
            // The worker's turn.
            tokio::task::yield_now().await;
            assert_eq!(heartbeats.check(), 1);
        }
        alive.abort();
    }

    #[test]
    fn a_worker_that_has_ended_is_not_missed() {
        let heartbeats = WorkerHeartbeats::default();
        drop(heartbeats.respond());
        for _ in 0..2 {
            assert_eq!(heartbeats.check(), 0);
        }
    }
}
