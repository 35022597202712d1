//! Failures of accepting, which are reported now and then.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum interval between two reports of a failing accept.
const REPORT: Duration = Duration::from_secs(1);

/// Count of the calls of `accept(2)`, by all workers, that failed because of the system, for
/// example for lack of descriptors or memory.
#[derive(Debug, Default)]
pub(crate) struct AcceptFailures {
    count: AtomicU64,
    reported: Mutex<Option<Instant>>,
}

impl AcceptFailures {
    /// Counts a failed accept and reports it, at most once a second.
    pub(super) fn report(&self, error: &io::Error) {
        let failures = self.count.fetch_add(1, Relaxed) + 1;
        let mut reported = self.reported.lock();
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            *reported = Some(Instant::now());
            tracing::error!(%error, failures, "cannot accept connections; check the open-file limit");
        }
    }
}
