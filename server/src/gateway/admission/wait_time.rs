//! How long a connection has waited to be admitted.

use std::time::Duration;

use tokio::time::Instant;

/// How long a connection waits, or has waited, for one of its client's to end. It takes little room in the many that
/// need not.
#[derive(Debug, Default)]
pub(crate) struct AdmissionWait(Option<Box<WaitTime>>);

#[derive(Debug, Clone, Copy)]
enum WaitTime {
    Since(Instant),
    For(Duration),
}

impl AdmissionWait {
    /// How long it has waited so far, if it had to.
    pub(crate) fn so_far(&self) -> Option<Duration> {
        Some(match **self.0.as_ref()? {
            WaitTime::Since(since) => since.elapsed(),
            WaitTime::For(time) => time,
        })
    }

    pub(super) fn begin(&mut self, since: Instant) {
        self.0 = Some(Box::new(WaitTime::Since(since)));
    }

    /// It waits no longer.
    pub(super) fn end(&mut self) {
        if let Some(time) = self.so_far() {
            self.set(time);
        }
    }

    pub(super) fn set(&mut self, time: Duration) {
        self.0 = Some(Box::new(WaitTime::For(time)));
    }
}
