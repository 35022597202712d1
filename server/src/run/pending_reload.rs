//! Whether a reload is due, and when: a change is owed until it is in force or is known to be wrong.

use std::time::{Duration, Instant};

use crate::load::LoadError;

/// How long it takes to the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long it takes to the next attempt at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How an attempt to reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReloadAttempt {
    /// What the files say is in force.
    Done,
    /// The files are wrong. Only another change can help.
    Wrong,
    /// Something else was in the way, which may be gone the next time.
    Hindered,
}

impl ReloadAttempt {
    /// How an attempt ended that came to this.
    pub(crate) fn by<T>(loaded: &Result<T, LoadError>) -> Self {
        match loaded {
            Ok(_) => Self::Done,
            Err(error) if !error.may_pass() => Self::Wrong,
            Err(_) => Self::Hindered,
        }
    }
}

/// The reload that is owed, if one is.
#[derive(Debug, Default)]
pub(crate) struct PendingReload {
    due: Option<Instant>,
    /// How many attempts in a row were hindered.
    hindered: u32,
}

impl PendingReload {
    /// The files have changed, or somebody has asked for a reload.
    pub(crate) fn request(&mut self, now: Instant) {
        self.due = Some(now);
        self.hindered = 0;
    }

    /// When the next attempt is to be made.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes note of how an attempt ended.
    pub(crate) fn attempted(&mut self, attempted: ReloadAttempt, now: Instant) {
        match attempted {
            ReloadAttempt::Done | ReloadAttempt::Wrong => *self = Self::default(),
            ReloadAttempt::Hindered => {
                // Nobody else tries in step with this process, so there is no jitter.
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
