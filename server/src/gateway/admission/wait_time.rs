//! How long a connection has waited to be let in.

use std::time::Duration;

use tokio::time::Instant;

/// How long a connection waits, or has waited, for one of its client's to end. It takes little room in the many that
/// need not.
#[derive(Debug, Default)]
pub(crate) struct Wait(Option<Box<Waited>>);

#[derive(Debug, Clone, Copy)]
enum Waited {
    Since(Instant),
    For(Duration),
}

impl Wait {
    /// How long it has waited so far, if it had to.
    pub(crate) fn so_far(&self) -> Option<Duration> {
        Some(match **self.0.as_ref()? {
            Waited::Since(since) => since.elapsed(),
            Waited::For(time) => time,
        })
    }

    pub(super) fn begin(&mut self, since: Instant) {
        self.0 = Some(Box::new(Waited::Since(since)));
    }

    /// It waits no longer.
    pub(super) fn end(&mut self) {
        if let Some(time) = self.so_far() {
            self.took(time);
        }
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.0 = Some(Box::new(Waited::For(time)));
    }
}
