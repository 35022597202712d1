//! When it is known for the first time whether a group can serve.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{UpstreamGroup, state::GroupState};

/// How long the first verdict about an upstream is waited for; then the group counts as it is.
pub(super) const FIRST_VERDICT: Duration = Duration::from_secs(5);

/// Whether the first verdict is awaited, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct FirstVerdict {
    // Only a hint that spares a lock: what counts is asked under the book's lock.
    is_awaited: AtomicBool,
    given: Notify,
}

impl UpstreamGroup {
    /// Waits for the first verdict of the probes: an upstream takes connections, or all that could are
    /// known to be down. Returns whether there is a verdict.
    ///
    /// It is awaited when a group begins to be probed and when it gets upstreams that are yet unknown,
    /// for at most 5 s from then on, whoever asks how often. Cancel safe.
    pub async fn first_verdict(&self) -> bool {
        while self.first_verdict.is_awaited.load(Relaxed) {
            // Listening begins here, so that no verdict is missed.
            let given = self.first_verdict.given.notified();
            let until = {
                let book = self.state.lock();
                self.settle(&book);
                match book.undecided_until() {
                    Some(until) => until,
                    None => return true,
                }
            };
            // Either way it is asked again.
            drop(timeout_at(until, given).await);
        }
        self.state.lock().undecided_until().is_none()
    }

    /// From now on upstreams are probed, and a verdict can be awaited.
    pub(super) fn begin_probing(&self) {
        let mut book = self.state.lock();
        if !book.is_probed {
            book.is_probed = true;
            book.await_verdict();
        }
        self.settle(&book);
    }

    /// Tells those who wait, if there is a verdict now, and that there is something to wait for, if not.
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
