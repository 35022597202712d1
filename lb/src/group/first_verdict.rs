//! The first verdict about a group: the moment when it is known whether the group can serve.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{UpstreamGroup, state::GroupState};

/// Longest wait for the first verdict; after it the group is used in the state that it has.
pub(super) const FIRST_VERDICT: Duration = Duration::from_secs(5);

/// State of the wait for the first verdict, and the wake-up of those that wait.
#[derive(Debug, Default)]
pub(super) struct FirstVerdict {
    // Only a hint that spares a lock: the check under the lock of the group's state decides.
    is_awaited: AtomicBool,
    given: Notify,
}

impl UpstreamGroup {
    /// Waits for the first verdict of the probes: an upstream takes connections, or all that could
    /// are known to be down. Returns true if there is a verdict, false if the time is over.
    ///
    /// A verdict is awaited when a group begins to be probed and when it gets upstreams that are
    /// yet unknown, for at most 5 s from then on, however often this is called. Cancel safe.
    pub async fn first_verdict(&self) -> bool {
        while self.first_verdict.is_awaited.load(Relaxed) {
            // The listener is registered here, so that no verdict is missed.
            let given = self.first_verdict.given.notified();
            let until = {
                let book = self.state.lock();
                self.settle(&book);
                match book.undecided_until() {
                    Some(until) => until,
                    None => return true,
                }
            };
            // Either way the state is checked again.
            drop(timeout_at(until, given).await);
        }
        self.state.lock().undecided_until().is_none()
    }

    /// Notes that upstreams are probed from now on, so that a verdict can be awaited.
    pub(crate) fn begin_probing(&self) {
        let mut book = self.state.lock();
        if !book.is_probed {
            book.is_probed = true;
            book.await_verdict();
        }
        self.settle(&book);
    }

    /// Updates the hint that a verdict is awaited, and wakes all waiting tasks if it no longer is.
    pub(super) fn settle(&self, book: &GroupState) {
        let is_awaited = book
            .undecided_until()
            .is_some_and(|until| until > Instant::now());
        if self.first_verdict.is_awaited.swap(is_awaited, Relaxed) && !is_awaited {
            self.first_verdict.given.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
