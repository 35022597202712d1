//! How many, and how often.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

/// The name of a client or a group, shared instead of copied.
pub type SharedName = Arc<str>;

/// How many there may be at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Limit {
    /// As many as come.
    #[default]
    Unlimited,
    /// This many and no more.
    AtMost(NonZeroU32),
}

impl Limit {
    /// Whether one more may come when `open` are there.
    pub const fn allows(self, open: u32) -> bool {
        match self {
            // The count itself must not overflow.
            Self::Unlimited => open < u32::MAX,
            Self::AtMost(limit) => open < limit.get(),
        }
    }

    /// The number, if there is one.
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::AtMost(limit) => Some(limit.get().into()),
        }
    }
}

impl From<NonZeroU32> for Limit {
    fn from(limit: NonZeroU32) -> Self {
        Self::AtMost(limit)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.pad("unlimited"),
            Self::AtMost(limit) => fmt::Display::fmt(limit, f),
        }
    }
}

/// How often something may happen: `events` at once, and as many again spread over each `per`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rate {
    /// How many events one `per` has room for, and how many may come at once after a pause.
    pub events: NonZeroU32,
    /// The time in which all events come back.
    pub per: Duration,
}

impl Rate {
    /// So many `events` in so much time.
    pub const fn new(events: NonZeroU32, per: Duration) -> Self {
        Self { events, per }
    }

    /// So many `events` a second.
    pub const fn per_second(events: NonZeroU32) -> Self {
        Self::new(events, Duration::from_secs(1))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, per } = self;
        match (per.as_secs(), per.subsec_nanos()) {
            (1, 0) => write!(f, "{events}/s"),
            (60, 0) => write!(f, "{events}/m"),
            (3600, 0) => write!(f, "{events}/h"),
            _ => write!(f, "{events}/{per:?}"),
        }
    }
}

/// What one client may use at a time and over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientLimits {
    /// How many connections it may have open.
    pub connections: Limit,
    /// How often it may open one; `None` means as often as it likes.
    pub rate: Option<Rate>,
    /// How long one more connection than it may have open waits for one of those to end. Without any time it is
    /// refused at once.
    pub wait: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    #[test]
    fn a_limit_allows_that_many_and_no_more() {
        assert!(Limit::AtMost(number(2)).allows(1));
        assert!(!Limit::AtMost(number(2)).allows(2));
        assert!(Limit::Unlimited.allows(u32::MAX - 1));
        assert!(
            !Limit::Unlimited.allows(u32::MAX),
            "the count cannot overflow"
        );
    }

    #[test]
    fn limits_and_rates_read_as_they_are_written() {
        assert_eq!(Limit::AtMost(number(10)).to_string(), "10");
        assert_eq!(Limit::Unlimited.to_string(), "unlimited");
        assert_eq!(Rate::per_second(number(5)).to_string(), "5/s");
        assert_eq!(
            Rate::new(number(100), Duration::from_mins(1)).to_string(),
            "100/m"
        );
        assert_eq!(
            Rate::new(number(3), Duration::from_hours(1)).to_string(),
            "3/h"
        );
        assert_eq!(
            Rate::new(number(7), Duration::from_millis(1500)).to_string(),
            "7/1.5s"
        );
    }

    #[test]
    fn a_limit_is_its_number_or_none() {
        assert_eq!(Limit::from(number(7)), Limit::AtMost(number(7)));
        assert_eq!(Limit::AtMost(number(7)).as_u64(), Some(7));
        assert_eq!(Limit::Unlimited.as_u64(), None);
    }
}
