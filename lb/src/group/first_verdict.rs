//! The first verdict about a group: the moment when it is known whether the group can serve.
#![expect(clippy::disallowed_methods, reason = "it waits, for a time at most")]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::state::GroupState;

/// State of the wait for the first verdict, and the wake-up of those that wait.
#[derive(Debug, Default)]
pub(super) struct FirstVerdict {
    // Only a hint that spares a lock: the check under the lock of the group's state decides.
    is_awaited: AtomicBool,
    given: Notify,
}

impl FirstVerdict {
    /// Waits for the verdict. Returns true if there is one, false if the time is over. Cancel safe.
    pub(super) async fn wait(&self, state: &Mutex<GroupState>) -> bool {
        while self.is_awaited.load(Relaxed) {
            // The listener is registered here, so that no verdict is missed.
            let given = self.given.notified();
            let until = {
                let book = state.lock();
                self.settle(&book);
                match book.undecided_until() {
                    Some(until) => until,
                    None => return true,
                }
            };
            // Either way the state is checked again.
            drop(timeout_at(until, given).await);
        }
        state.lock().undecided_until().is_none()
    }

    /// Updates the hint that a verdict is awaited, and wakes all waiting tasks if it no longer is.
    pub(super) fn settle(&self, book: &GroupState) {
        let is_awaited = book
            .undecided_until()
            .is_some_and(|until| until > Instant::now());
        if self.is_awaited.swap(is_awaited, Relaxed) && !is_awaited {
            self.given.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
