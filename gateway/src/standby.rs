//! The standby: it serves while there is no primary, and reports when it begins to.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time without a client after which the next one is reported again: 1 minute.
const QUIET: Duration = Duration::from_mins(1);

/// The time when the kernel last handed this process a client, if it is a standby.
#[derive(Debug, Default)]
pub(crate) struct StandbyState(OnceLock<Mutex<Option<Instant>>>);

impl StandbyState {
    /// Notes that this process is a standby.
    pub(crate) fn begin(&self) {
        self.0.get_or_init(Mutex::default);
    }

    /// Notes that the kernel has handed this process a client. A standby logs that it serves.
    pub(crate) fn note_client(&self, now: Instant) {
        if self.begins_with_client(now) {
            tracing::info!("the standby serves: there is no primary");
        }
    }

    /// Notes a client. Returns true if a standby begins to serve with it.
    fn begins_with_client(&self, now: Instant) -> bool {
        self.0.get().is_some_and(|last| {
            let last = last.lock().replace(now);
            last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_begins_to_serve_with_the_first_client_after_a_quiet_time() {
        let (standby, begin) = (StandbyState::default(), Instant::now());
        assert!(!standby.begins_with_client(begin), "it is a primary");
        standby.begin();
        for (seconds, is_news) in [
            (0, true),
            (1, false),
            (60, false),
            (120, true),
            (121, false),
        ] {
            let now = begin + Duration::from_secs(seconds);
            assert_eq!(
                standby.begins_with_client(now),
                is_news,
                "after {seconds} s"
            );
        }
    }
}
