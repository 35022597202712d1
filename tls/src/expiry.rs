//! Notices that certificates and revocation lists end: the schedule.
//!
//! A notice is due at a third of the lifetime before the end, 7 days and 1 day before it, at the
//! end, and once a day from then on. [`next_notice`] is a function of the time and of what was
//! said; it waits for nothing.
//!
//! ```
//! use tls::expiry::{ExpiryStage, Lifetime, next_notice};
//!
//! const DAY: u64 = 24 * 60 * 60;
//! let lifetime = Lifetime::new(0, 90 * DAY);
//! let first = next_notice(lifetime, 10 * DAY, None);
//! assert_eq!((first.stage, first.at), (ExpiryStage::LastThird, 60 * DAY));
//! let late = next_notice(lifetime, 85 * DAY, None);
//! assert_eq!((late.stage, late.at), (ExpiryStage::LastWeek, 83 * DAY));
//! ```

use crate::trust::validity::ValidityPeriod;

const DAY: u64 = 24 * 60 * 60;
/// Fraction of a lifetime that is left at the first notice: a third. What is renewed in time, as
/// usual, has none.
const FIRST_NOTICE: u64 = 3;

/// The stages up to the end, in order.
const STAGES: [ExpiryStage; 4] = [
    ExpiryStage::LastThird,
    ExpiryStage::LastWeek,
    ExpiryStage::LastDay,
    ExpiryStage::Ended(0),
];

/// Lifetime of a certificate or revocation list, in seconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    begin: u64,
    /// The first second at which it is over.
    end: u64,
}

/// Stage of a lifetime near its end, of which an operator is notified. Stages are ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpiryStage {
    /// A third of the lifetime is left, or less.
    LastThird,
    /// Seven days are left, or less. Left out if that is more than a third of the lifetime.
    LastWeek,
    /// One day is left, or less. Left out if that is more than a third of the lifetime.
    LastDay,
    /// The lifetime is over, for this number of whole days.
    Ended(u64),
}

/// The next notice about a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryNotice {
    /// The stage that is reported.
    pub stage: ExpiryStage,
    /// Time when it is due, in seconds of Unix time.
    pub at: u64,
}

impl Lifetime {
    /// Creates a lifetime from its first second and the first second at which it is over.
    pub fn new(begin: u64, end: u64) -> Self {
        Self { begin, end }
    }

    /// Returns the lifetime of a certificate, which is valid in its last second (`notAfter`).
    pub(crate) fn of_certificate(period: ValidityPeriod) -> Self {
        Self::new(period.not_before, period.not_after.saturating_add(1))
    }

    /// Returns the lifetime of a revocation list, which is over when its successor is due
    /// (`nextUpdate`).
    pub(crate) fn of_list(period: ValidityPeriod) -> Self {
        Self::new(period.not_before, period.not_after)
    }

    /// Returns the first second at which it is over, in Unix time.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Returns the first second of a stage; `None` if this lifetime does not have it.
    fn begin_of(self, stage: ExpiryStage) -> Option<u64> {
        let third = self.end.saturating_sub(self.begin) / FIRST_NOTICE;
        let before = |left: u64| (left < third).then(|| self.end.saturating_sub(left));
        match stage {
            ExpiryStage::LastThird => Some(self.end.saturating_sub(third)),
            ExpiryStage::LastWeek => before(7 * DAY),
            ExpiryStage::LastDay => before(DAY),
            ExpiryStage::Ended(days) => Some(self.end.saturating_add(days.saturating_mul(DAY))),
        }
    }

    /// Returns the latest stage that has begun; `None` if more than a third of the lifetime is
    /// left.
    pub fn stage(self, now: u64) -> Option<ExpiryStage> {
        if now >= self.end {
            return Some(ExpiryStage::Ended((now - self.end) / DAY));
        }
        let has_begun = |stage| self.begin_of(stage).is_some_and(|begin| begin <= now);
        STAGES.into_iter().rev().find(|&stage| has_begun(stage))
    }
}

/// Returns the next notice about a lifetime, given the stage that was last reported.
///
/// Of several stages that have begun and were not reported, only the latest is due. No stage is
/// reported twice, and none is left out that begins while notices are reported in time.
pub fn next_notice(lifetime: Lifetime, now: u64, said: Option<ExpiryStage>) -> ExpiryNotice {
    let reached = lifetime.stage(now).filter(|&stage| Some(stage) > said);
    let stage = match (reached, said) {
        (Some(reached), _) => reached,
        (None, Some(ExpiryStage::Ended(days))) => ExpiryStage::Ended(days.saturating_add(1)),
        (None, said) => STAGES
            .into_iter()
            .find(|&stage| Some(stage) > said && lifetime.begin_of(stage).is_some())
            .unwrap_or(ExpiryStage::Ended(0)),
    };
    let at = lifetime.begin_of(stage).unwrap_or(lifetime.end);
    ExpiryNotice { stage, at }
}

#[cfg(test)]
mod tests;
