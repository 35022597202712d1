//! Lines that were lost, and the outages in which they were.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A time in which lines of a log are lost.
#[derive(Debug, Clone, Copy)]
pub struct LogOutage {
    /// The time at which the first of them was lost.
    pub since: Instant,
    /// Number of lines that have been lost since.
    pub lost: u64,
    last: Instant,
}

/// Counter of the lost lines of one log. It reports the beginning and the end of each outage.
#[derive(Debug)]
pub(super) struct LineLosses {
    name: String,
    state: Mutex<LossState>,
}

#[derive(Debug, Default)]
struct LossState {
    unreported: u64,
    outage: Option<LogOutage>,
}

impl LineLosses {
    /// Creates the counter of the log of this name.
    pub(super) fn of(name: String) -> Self {
        Self {
            name,
            state: Mutex::default(),
        }
    }

    /// Counts lost lines. The reason of the first of them is logged.
    pub(super) fn lose(&self, lines: u64, why: &dyn fmt::Display, now: Instant) {
        let mut state = self.state.lock();
        state.unreported += lines;
        let begins = state.outage.is_none();
        let outage = state.outage.get_or_insert(LogOutage {
            since: now,
            lost: 0,
            last: now,
        });
        outage.lost += lines;
        outage.last = now;
        drop(state);
        // Not under the lock: the event may be a line of the same log.
        if begins {
            tracing::error!(log = self.name, error = %why, "cannot write a log; its lines are lost");
        }
    }

    /// Returns the number of lost lines that the log itself does not report yet.
    pub(super) fn unreported(&self) -> u64 {
        self.state.lock().unreported
    }

    /// Notes that the log reports `lines` lost lines.
    pub(super) fn reported(&self, lines: u64) {
        self.state.lock().unreported -= lines;
    }

    /// Ends the outage if no line was lost for the time `quiet` and all lost lines are reported.
    pub(super) fn end_if_over(&self, now: Instant, quiet: Duration) {
        let mut state = self.state.lock();
        let is_over = |outage: &mut LogOutage| now.saturating_duration_since(outage.last) >= quiet;
        if state.unreported > 0 {
            return;
        }
        let Some(LogOutage { since, lost, .. }) = state.outage.take_if(is_over) else {
            return;
        };
        drop(state);
        let seconds = now.saturating_duration_since(since).as_secs();
        tracing::warn!(log = self.name, lost, seconds, "a log can be written again");
    }

    /// Returns the current [`LogOutage`]; `None` if no lines are being lost.
    pub(super) fn outage(&self) -> Option<LogOutage> {
        self.state.lock().outage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_goes_on_until_nothing_was_lost_for_a_while_and_all_is_told() {
        let (losses, start) = (LineLosses::of("log".to_owned()), Instant::now());
        let second = Duration::from_secs(1);
        losses.lose(2, &"full", start);
        losses.lose(1, &"full", start + second);
        losses.end_if_over(start + 9 * second, second);
        assert_eq!(losses.outage().map(|outage| outage.lost), Some(3), "untold");
        losses.reported(3);
        losses.end_if_over(start + second, second);
        assert!(losses.outage().is_some(), "it may go on");
        losses.end_if_over(start + 2 * second, second);
        assert!(losses.outage().is_none());
    }
}
