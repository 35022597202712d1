//! Limits of numbers and of rates.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Name of a client or a group, shared by reference counting instead of copied.
pub type SharedName = Arc<str>;

/// Limit of the number of connections open at a time.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use lb::Limit;
///
/// let two = Limit::from(NonZeroU32::new(2).unwrap());
/// assert!(two.allows(1) && !two.allows(2));
/// assert_eq!((two.to_string(), Limit::default().to_string()), ("2".into(), "unlimited".into()));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Any number of connections.
    #[default]
    Unlimited,
    /// At most this many connections.
    AtMost(NonZeroU32),
}

impl Limit {
    /// Returns true if one more is allowed when `open` are open.
    pub const fn allows(self, open: u32) -> bool {
        match self {
            // The count itself must not overflow.
            Self::Unlimited => open < u32::MAX,
            Self::AtMost(limit) => open < limit.get(),
        }
    }

    /// Returns the number, or `None` without a limit.
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

/// Limit of events over time: `events` at once, and as many again spread over each `per`.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
///
/// use lb::Rate;
///
/// let rate = Rate::new(NonZeroU32::new(100).unwrap(), Duration::from_mins(1));
/// assert_eq!(rate.to_string(), "100/m");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Events allowed in each `per`, and at once after a pause.
    pub events: NonZeroU32,
    /// Time in which all events become available again.
    pub per: Duration,
}

impl Rate {
    /// Makes a rate of `events` in each `per`.
    pub const fn new(events: NonZeroU32, per: Duration) -> Self {
        Self { events, per }
    }

    /// Makes a rate of `events` a second.
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

/// Limits of one client: open connections, and connections over time.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
///
/// use lb::{ClientLimits, Limit, Rate};
///
/// let limits = ClientLimits {
///     connections: Limit::AtMost(NonZeroU32::new(10).unwrap()),
///     rate: Some(Rate::per_second(NonZeroU32::new(50).unwrap())),
///     wait: Duration::from_secs(2),
/// };
/// assert!(limits.connections.allows(9) && !limits.connections.allows(10));
/// assert_eq!(ClientLimits::default().connections, Limit::Unlimited);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Limit of its open connections.
    pub connections: Limit,
    /// Limit of the rate of its new connections; `None` is not a limit.
    pub rate: Option<Rate>,
    /// Time that one more connection than allowed waits for an open one to end. Zero refuses it at
    /// once.
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
