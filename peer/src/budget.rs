//! Rate limits for events that a peer can cause.

use std::time::{Duration, Instant};

/// Token bucket: allows a burst at once, and one more event for each interval that has passed.
///
/// A budget has no clock: the time is an argument. It takes 48 bytes and never allocates.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use peer::budget::Budget;
///
/// let mut budget = Budget::new(2, Duration::from_secs(10));
/// let now = Instant::now();
/// assert!(budget.spend(now) && budget.spend(now) && !budget.spend(now));
/// assert!(budget.spend(now + Duration::from_secs(10)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    interval: Duration,
    /// Time in which an empty budget becomes full again: the interval times the burst.
    span: Duration,
    /// Time at which the budget is full again; `None` before the first event.
    full_at: Option<Instant>,
}

impl Budget {
    /// Creates a full budget of `burst` events, which regains one each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            interval,
            span: interval.saturating_mul(burst),
            full_at: None,
        }
    }

    /// Spends one event. Returns false, and changes nothing, if none is left.
    #[must_use = "what is over the budget must not happen"]
    pub fn spend(&mut self, now: Instant) -> bool {
        let spent = self.spent(now).saturating_add(self.interval);
        if spent > self.span {
            return false;
        }
        match now.checked_add(spent) {
            Some(full_at) => self.full_at = Some(full_at),
            None => return false,
        }
        true
    }

    /// Returns true if nothing is spent, so that a new budget would be equal to this one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.spent(now).is_zero()
    }

    /// Returns the time until the budget is full again; zero if it is full.
    fn spent(&self, now: Instant) -> Duration {
        self.full_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the times")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_is_had_at_once_and_one_more_for_each_interval() {
        let start = Instant::now();
        let mut budget = Budget::new(3, 10 * MS);
        let mut had = |ms| (0..9).take_while(|_| budget.spend(start + ms * MS)).count();
        assert_eq!(
            [had(0), had(9), had(10), had(31), had(1000)],
            [3, 0, 1, 2, 3]
        );
        assert!(!budget.is_full(start + 1029 * MS));
        assert!(budget.is_full(start + 1030 * MS));
    }

    #[test]
    fn the_largest_and_the_smallest_values_do_no_harm() {
        let now = Instant::now();
        assert!(!Budget::new(0, MS).spend(now));
        assert!(
            !Budget::new(2, Duration::MAX).spend(now),
            "it would end after all time"
        );
        assert!(Budget::new(1, Duration::ZERO).spend(now));
        assert!(Budget::new(u32::MAX, Duration::from_mins(1)).spend(now));
    }

    proptest! {
        /// A plain model beside it: a list of all that was granted.
        #[test]
        fn no_stretch_of_time_has_more_than_the_burst_and_its_intervals(
            burst in 1..20_u32,
            interval in 1..50_u32,
            steps in prop::collection::vec(0..60_u32, 1..200),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(burst, interval * MS);
            let (mut at, mut granted) = (0, Vec::new());
            for step in steps {
                at += step;
                if budget.spend(start + at * MS) {
                    granted.push(at);
                }
                for (place, &since) in granted.iter().enumerate() {
                    let many = u32::try_from(granted.len() - place).unwrap();
                    prop_assert!(many <= burst + (at - since) / interval);
                }
            }
        }

        #[test]
        fn what_was_not_spent_for_so_long_is_had_again(
            burst in 1..20_u32,
            interval in 1..50_u32,
            spent in 0..40_u32,
            pause in 0..20_u32,
        ) {
            let (mut now, mut budget) = (Instant::now(), Budget::new(burst, interval * MS));
            let had = (0..spent).filter(|_| budget.spend(now)).count();
            prop_assert_eq!(had, burst.min(spent) as usize);
            now += pause * interval * MS;
            let left = (burst - burst.min(spent) + pause).min(burst);
            let had = (0..100).take_while(|_| budget.spend(now)).count();
            prop_assert_eq!(had, left as usize);
        }

        #[test]
        fn a_clock_that_goes_back_grants_nothing_extra(
            burst in 1..20_u32,
            moves in prop::collection::vec(0..100_u32, 1..100),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(burst, 10 * MS);
            let granted = moves.iter().filter(|ms| budget.spend(start + **ms * MS)).count();
            let latest = moves.iter().max().unwrap();
            prop_assert!(granted <= (burst + latest / 10 + 1) as usize);
        }
    }
}
