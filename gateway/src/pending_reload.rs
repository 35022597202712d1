//! Schedule of reloads: a change is pending until it is in force or is known to be wrong.

use std::time::{Duration, Instant};

/// Pause before the second attempt: 100 ms. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts: 10 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Result of an attempt to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadAttempt {
    /// The contents of the files are in force.
    Done,
    /// The files are invalid. Only another change can help.
    Wrong,
    /// The attempt failed for another reason, which may pass.
    Hindered,
}

/// The reload that is pending, if there is one.
#[derive(Debug, Default)]
pub struct PendingReload {
    due: Option<Instant>,
    /// Number of consecutive attempts that were hindered.
    hindered: u32,
}

impl PendingReload {
    /// Schedules a reload at once, since the files have changed or a reload was requested.
    pub fn request(&mut self, now: Instant) {
        self.due = Some(now);
        self.hindered = 0;
    }

    /// Returns the time of the next attempt; `None` if no reload is pending.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records the result of an attempt, and schedules the next one if it was
    /// [`ReloadAttempt::Hindered`].
    pub fn attempted(&mut self, attempted: ReloadAttempt, now: Instant) {
        match attempted {
            ReloadAttempt::Done | ReloadAttempt::Wrong => *self = Self::default(),
            ReloadAttempt::Hindered => {
                // No other process retries in step with this one, so there is no jitter.
                let doubled = FIRST_PAUSE.saturating_mul(1 << self.hindered.min(10));
                self.due = Some(now + doubled.min(LONGEST_PAUSE));
                self.hindered += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hindered_reload_is_due_again_ever_later_until_it_is_done() {
        let begin = Instant::now();
        let mut pending = PendingReload::default();
        assert_eq!(pending.due(), None);
        pending.request(begin);
        assert_eq!(pending.due(), Some(begin));
        for pause in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            pending.attempted(ReloadAttempt::Hindered, begin);
            assert_eq!(pending.due(), Some(begin + Duration::from_millis(pause)));
        }
        pending.attempted(ReloadAttempt::Done, begin);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn wrong_files_are_not_tried_again_and_a_change_begins_anew() {
        let begin = Instant::now();
        let mut pending = PendingReload::default();
        pending.request(begin);
        pending.attempted(ReloadAttempt::Wrong, begin);
        assert_eq!(pending.due(), None);
        pending.attempted(ReloadAttempt::Hindered, begin);
        pending.attempted(ReloadAttempt::Hindered, begin);
        pending.request(begin);
        assert_eq!(pending.due(), Some(begin), "a change does not wait");
        pending.attempted(ReloadAttempt::Hindered, begin);
        assert_eq!(pending.due(), Some(begin + FIRST_PAUSE));
    }
}
