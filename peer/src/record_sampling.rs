//! Sampling of the records of refused clients, so that no client can fill the disk with them or
//! hide another's records.
//!
//! Each client and each source has a budget of its own for each reason. The records of all sources
//! together are bounded for each reason too, since the number of sources is not. Records over a
//! budget are counted by reason.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::budget::Budget;

/// Budget of the records of one client, or of one source, with one reason: 20 at once, then 1 per
/// second.
const EACH: Budget = Budget::new(20, Duration::from_secs(1));
/// Budget of the records of all sources together with one reason, and of all clients that have no
/// budget of their own: 100 at once, then 10 per second.
const TOGETHER: Budget = Budget::new(100, Duration::from_millis(100));
/// Maximum number of clients, and of sources, with a [`Budget`] of their own for one reason.
const MOST: usize = 1024;
/// Minimum interval between two removals of budgets that are full again.
const SWEEP: Duration = Duration::from_secs(1);

/// The client or the source that a refusal is counted for.
#[derive(Debug, Clone, Copy)]
pub enum RefusalSubject<'a> {
    /// A client whose certificate is from an authority, by its name.
    Client(&'a str),
    /// All clients from this address or network.
    Source(IpAddr),
}

/// The records that were not written, by reason.
pub type SuppressedCounts = BTreeMap<&'static str, u64>;

/// Sampler of the records of refused clients: the budgets, and the counts of suppressed records.
#[derive(Debug, Default)]
pub struct RefusalSampler(Mutex<SamplerState>);

#[derive(Debug, Default)]
struct SamplerState {
    reasons: HashMap<&'static str, ReasonBudgets>,
    suppressed: SuppressedCounts,
    /// The first record that was suppressed since the last written one. It can still be written.
    held: Option<(&'static str, Vec<u8>)>,
}

#[derive(Debug)]
struct ReasonBudgets {
    sources: Budget,
    other_clients: Budget,
    by_client: BudgetTable<Box<str>>,
    by_source: BudgetTable<IpAddr>,
}

/// Budgets of the clients or sources that have spent some of theirs.
#[derive(Debug)]
struct BudgetTable<K> {
    budgets: HashMap<K, Budget>,
    swept: Option<Instant>,
}

impl RefusalSampler {
    /// Returns the record, and the counts of those that were suppressed before it, if it may be
    /// written. Otherwise the record is kept for [`RefusalSampler::take_held`] if no other is kept,
    /// or else counted as suppressed.
    pub fn admit(
        &self,
        reason: &'static str,
        subject: RefusalSubject<'_>,
        now: Instant,
        line: impl FnOnce() -> Vec<u8>,
    ) -> Option<(Vec<u8>, SuppressedCounts)> {
        let mut state = self.0.lock();
        let budgets = state.reasons.entry(reason).or_default();
        if budgets.spend(subject, now) {
            let suppressed = state.take_suppressed();
            drop(state);
            return Some((line(), suppressed));
        }
        if state.held.is_none() {
            state.held = Some((reason, line()));
        } else {
            *state.suppressed.entry(reason).or_default() += 1;
        }
        None
    }

    /// Returns the counts of the records that were suppressed before a record that is written in
    /// any case. A record that is kept is counted and dropped.
    pub fn before_another(&self) -> SuppressedCounts {
        self.0.lock().take_suppressed()
    }

    /// Returns the first record that was suppressed since the last written one, if any, and the
    /// counts of the others.
    pub fn take_held(&self) -> Option<(Vec<u8>, SuppressedCounts)> {
        let mut state = self.0.lock();
        let (_, line) = state.held.take()?;
        Some((line, std::mem::take(&mut state.suppressed)))
    }
}

impl SamplerState {
    fn take_suppressed(&mut self) -> SuppressedCounts {
        if let Some((reason, _)) = self.held.take() {
            *self.suppressed.entry(reason).or_default() += 1;
        }
        std::mem::take(&mut self.suppressed)
    }
}

impl Default for ReasonBudgets {
    fn default() -> Self {
        Self {
            sources: TOGETHER,
            other_clients: TOGETHER,
            by_client: BudgetTable::default(),
            by_source: BudgetTable::default(),
        }
    }
}

impl ReasonBudgets {
    fn spend(&mut self, subject: RefusalSubject<'_>, now: Instant) -> bool {
        match subject {
            RefusalSubject::Client(name) => match self.by_client.budget(name, now) {
                Some(budget) => budget.spend(now),
                None => self.other_clients.spend(now),
            },
            RefusalSubject::Source(source) => {
                let own = self.by_source.budget(&source, now);
                own.is_none_or(|budget| budget.spend(now)) && self.sources.spend(now)
            }
        }
    }
}

impl<K> Default for BudgetTable<K> {
    fn default() -> Self {
        Self {
            budgets: HashMap::new(),
            swept: None,
        }
    }
}

impl<K: Eq + Hash> BudgetTable<K> {
    /// Returns the budget of `who`; `None` if it has none and the table is full.
    fn budget<Q>(&mut self, who: &Q, now: Instant) -> Option<&mut Budget>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        if !self.budgets.contains_key(who) {
            self.make_room(now);
            if self.budgets.len() >= MOST {
                return None;
            }
            self.budgets.insert(who.to_owned().into(), EACH);
        }
        self.budgets.get_mut(who)
    }

    fn make_room(&mut self, now: Instant) {
        let is_due = |swept| now.saturating_duration_since(swept) >= SWEEP;
        if self.budgets.len() >= MOST && self.swept.is_none_or(is_due) {
            self.budgets.retain(|_, budget| !budget.is_full(now));
            self.swept = Some(now);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the times")]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// All records are of the same time, however long the test takes.
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    const REVOKED: &str = "certificate_revoked";
    const NOISE: &str = "tls_failed";

    /// Returns how many of `of` records are written.
    fn written(
        refusals: &RefusalSampler,
        reason: &'static str,
        subject: RefusalSubject<'_>,
        of: usize,
    ) -> usize {
        let now = *START;
        let admit = |_: &usize| refusals.admit(reason, subject, now, Vec::new).is_some();
        (0..of).filter(admit).count()
    }

    fn source(n: usize) -> RefusalSubject<'static> {
        let [.., a, b] = n.to_be_bytes();
        RefusalSubject::Source([192, 0, a, b].into())
    }

    #[test]
    fn one_clients_refusals_are_bounded_and_hide_no_other_ones() {
        let refusals = RefusalSampler::default();
        let (loud, other) = (
            RefusalSubject::Client("loud"),
            RefusalSubject::Client("other"),
        );
        assert_eq!(written(&refusals, "client_rate", loud, 1000), 20);
        assert_eq!(written(&refusals, "client_rate", other, 15), 15);
        assert_eq!(written(&refusals, REVOKED, loud, 15), 15, "another reason");
    }

    #[test]
    fn strangers_are_bounded_by_source_and_together_and_hide_no_client() {
        let refusals = RefusalSampler::default();
        assert_eq!(written(&refusals, NOISE, source(0), 1000), 20);
        let noise: usize = (1..1000)
            .map(|n| written(&refusals, NOISE, source(n), 9))
            .sum();
        assert_eq!(noise, 80, "100 of all sources together");
        let names = (0..2000).map(|n| n.to_string());
        let many: usize = names
            .map(|name| written(&refusals, "x", RefusalSubject::Client(&name), 1))
            .sum();
        assert_eq!(many, MOST + 100, "there is room for so many names");
        assert_eq!(
            written(&refusals, REVOKED, RefusalSubject::Client("mallory"), 20),
            20
        );
        let state = refusals.0.lock();
        let tables = state.reasons.values().map(|reason| {
            reason
                .by_client
                .budgets
                .len()
                .max(reason.by_source.budgets.len())
        });
        assert_eq!(tables.max(), Some(MOST));
    }

    #[test]
    fn whoever_was_quiet_is_forgotten_and_makes_room() {
        let (mut table, now) = (BudgetTable::<IpAddr>::default(), Instant::now());
        let address = |n: usize| IpAddr::from([10, 0, n.to_be_bytes()[6], n.to_be_bytes()[7]]);
        for n in 0..MOST {
            assert!(table.budget(&address(n), now).unwrap().spend(now));
        }
        assert!(table.budget(&address(MOST), now).is_none());
        assert!(table.budget(&address(0), now).is_some());
        assert!(table.budget(&address(MOST), now + SWEEP).is_some());
    }

    #[test]
    fn what_is_not_written_is_counted_by_reason_and_the_first_of_it_kept() {
        let refusals = RefusalSampler::default();
        let spent = [(NOISE, source(1)), (REVOKED, RefusalSubject::Client("m"))];
        for times in [20, 3] {
            for (reason, subject) in spent {
                written(&refusals, reason, subject, times);
            }
        }
        let (_, suppressed) = refusals.take_held().unwrap();
        assert_eq!(
            suppressed,
            SuppressedCounts::from([(NOISE, 2), (REVOKED, 3)])
        );
        assert!(refusals.take_held().is_none(), "nothing is left");

        written(&refusals, NOISE, source(1), 3);
        let before = refusals.before_another();
        assert_eq!(
            before,
            SuppressedCounts::from([(NOISE, 3)]),
            "the one that is kept as well"
        );
        assert!(refusals.take_held().is_none());
    }
}
