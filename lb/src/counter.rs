//! A bounded counter without a lock.
//!
//! `tests/loom.rs` explores every interleaving of three threads.

use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::limit::Limit;

/// Counts [`Claim`]s and never exceeds the limit that a claim was made under.
///
/// The limit is passed with each claim, so lowering it refuses new claims and revokes none.
///
/// ```
/// use std::{num::NonZeroU32, sync::Arc};
///
/// use lb::{Counter, Limit};
///
/// let (counter, limit) = (Arc::new(Counter::new()), Limit::AtMost(NonZeroU32::MIN));
/// let claim = counter.claim(limit).expect("nothing is claimed yet");
/// assert!(counter.claim(limit).is_none());
/// drop(claim);
/// assert_eq!(counter.open(), 0);
/// ```
// Relaxed suffices: the count guards nothing but itself.
#[derive(Debug)]
pub struct Counter {
    open: AtomicU32,
}

impl Counter {
    /// Makes a counter at zero.
    #[expect(
        clippy::new_without_default,
        reason = "loom's atomics have no default to derive"
    )]
    pub fn new() -> Self {
        Self {
            open: AtomicU32::new(0),
        }
    }

    /// Counts one more claim. Returns `None` if `limit` is reached.
    pub fn claim(self: &Arc<Self>, limit: Limit) -> Option<Claim> {
        let one_more = |open| limit.allows(open).then(|| open + 1);
        self.open.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Claim {
            counter: Arc::clone(self),
        })
    }

    /// Returns the number of claims held now.
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }
}

/// One counted claim of a [`Counter`], returned on drop.
#[derive(Debug)]
#[must_use = "dropping a claim returns it"]
pub struct Claim {
    counter: Arc<Counter>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let before = self.counter.open.fetch_sub(1, Relaxed);
        debug_assert_ne!(before, 0, "a claim was dropped that was never counted");
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::num::NonZeroU32;
    use std::thread;

    use super::*;

    fn at_most(n: u32) -> Limit {
        Limit::AtMost(NonZeroU32::new(n).unwrap())
    }

    #[test]
    fn a_claim_counts_until_it_is_dropped() {
        let counter = Arc::new(Counter::new());
        let first = counter.claim(at_most(1)).unwrap();
        assert!(
            counter.claim(at_most(1)).is_none(),
            "the only claim is taken"
        );
        drop(first);
        assert_eq!(counter.open(), 0);
        assert!(counter.claim(at_most(1)).is_some());
    }

    #[test]
    fn a_lower_limit_refuses_new_claims_and_keeps_old_ones() {
        let counter = Arc::new(Counter::new());
        let held: Vec<_> = (0..3)
            .map(|_| counter.claim(Limit::Unlimited).unwrap())
            .collect();
        assert!(counter.claim(at_most(2)).is_none());
        assert_eq!(counter.open(), 3);
        drop(held);
        assert_eq!(counter.open(), 0);
    }

    #[test]
    fn a_panic_returns_the_claim() {
        let counter = Arc::new(Counter::new());
        let claimed = Arc::clone(&counter);
        let panicked = thread::spawn(move || {
            let _claim = claimed.claim(at_most(1)).unwrap();
            panic!("a bug in one connection");
        });
        assert!(panicked.join().is_err());
        assert_eq!(counter.open(), 0);
    }

    #[test]
    fn racing_threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let counter = Arc::new(Counter::new());
        let come_and_go = || {
            for _ in 0..20_000 {
                let claim = counter.claim(at_most(2));
                assert!(counter.open() <= 2);
                drop(claim);
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(come_and_go))));
        assert_eq!(counter.open(), 0);
    }
}
