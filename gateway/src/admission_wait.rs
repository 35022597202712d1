//! The time that a connection waits for its admission.

use std::time::Duration;

use tokio::time::Instant;

/// The time that a connection waits, or has waited, for another connection of its client to end. It
/// takes little memory in the many connections that need not wait.
#[derive(Debug, Default)]
pub(crate) struct AdmissionWait(Option<Box<WaitTime>>);

#[derive(Debug, Clone, Copy)]
enum WaitTime {
    Since(Instant),
    For(Duration),
}

impl AdmissionWait {
    /// Returns the time that it has waited so far; `None` if it did not have to.
    pub(crate) fn so_far(&self) -> Option<Duration> {
        Some(match **self.0.as_ref()? {
            WaitTime::Since(since) => since.elapsed(),
            WaitTime::For(time) => time,
        })
    }

    pub(crate) fn begin(&mut self, since: Instant) {
        self.0 = Some(Box::new(WaitTime::Since(since)));
    }

    /// Ends the wait: its time does not grow any more.
    pub(crate) fn end(&mut self) {
        if let Some(time) = self.so_far() {
            self.set(time);
        }
    }

    pub(crate) fn set(&mut self, time: Duration) {
        self.0 = Some(Box::new(WaitTime::For(time)));
    }
}
