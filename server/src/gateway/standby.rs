//! A standby: it serves while there is no primary, and says so.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Gateway;

/// After how long without a client the next one is news again.
const QUIET: Duration = Duration::from_mins(1);

/// When the kernel last handed a client to this process, if it is a standby.
#[derive(Debug, Default)]
pub(super) struct StandbyState(OnceLock<Mutex<Option<Instant>>>);

impl StandbyState {
    /// This process is one.
    pub(super) fn begin(&self) {
        self.0.get_or_init(Mutex::default);
    }

    /// A client has come. Returns whether the standby has just begun to serve.
    fn serves(&self, now: Instant) -> bool {
        self.0.get().is_some_and(|last| {
            let last = last.lock().replace(now);
            last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET)
        })
    }
}

impl Gateway {
    /// The kernel has handed it a client.
    pub(crate) fn note_steered_client(&self) {
        if self.standby.serves(Instant::now()) {
            tracing::info!("the standby serves: there is no primary");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_begins_to_serve_with_the_first_client_after_a_quiet_time() {
        let (standby, begin) = (StandbyState::default(), Instant::now());
        assert!(!standby.serves(begin), "it is a primary");
        standby.begin();
        for (seconds, is_news) in [
            (0, true),
            (1, false),
            (60, false),
            (120, true),
            (121, false),
        ] {
            let now = begin + Duration::from_secs(seconds);
            assert_eq!(standby.serves(now), is_news, "after {seconds} s");
        }
    }
}
