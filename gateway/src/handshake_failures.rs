//! Counts of failed handshakes by source, for bans.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use policy::BanPolicy;

/// Maximum number of sources that are remembered at a time; further ones are not counted.
const MOST_SOURCES: usize = 65_536;

/// Failed handshakes by source, within the time that the policy's rule says.
#[derive(Debug, Default)]
pub(crate) struct HandshakeFailures(Mutex<FailureSources>);

#[derive(Debug, Default)]
struct FailureSources {
    windows: HashMap<IpAddr, FailureWindow>,
    swept: Option<Instant>,
}

/// A source's failures since the first of them.
#[derive(Debug, Clone, Copy)]
struct FailureWindow {
    since: Instant,
    failures: u32,
}

impl HandshakeFailures {
    /// Counts a failure of a source. Returns true if the source is to be banned by the
    /// [`BanPolicy`]; its count begins at zero again then.
    pub(crate) fn count(&self, source: IpAddr, rule: &BanPolicy, now: Instant) -> bool {
        let mut sources = self.0.lock();
        if !sources.make_room_for(source, rule.within, now) {
            return false;
        }
        let window = sources.windows.entry(source).or_insert(FailureWindow {
            since: now,
            failures: 0,
        });
        if !window.is_open(rule.within, now) {
            *window = FailureWindow {
                since: now,
                failures: 0,
            };
        }
        window.failures += 1;
        let full = window.failures >= rule.failures.get();
        if full {
            sources.windows.remove(&source);
        }
        full
    }
}

impl FailureSources {
    /// Makes room for `source`, and returns true if it can be counted. If the table is full,
    /// expired entries are removed, at most once in the rule's time: a scan of all entries for each
    /// new source would help an attacker.
    fn make_room_for(&mut self, source: IpAddr, within: Duration, now: Instant) -> bool {
        if self.windows.len() < MOST_SOURCES || self.windows.contains_key(&source) {
            return true;
        }
        let is_due = |swept| now.saturating_duration_since(swept) >= within;
        if self.swept.is_none_or(is_due) {
            self.windows.retain(|_, window| window.is_open(within, now));
            self.swept = Some(now);
        }
        self.windows.len() < MOST_SOURCES
    }
}

impl FailureWindow {
    fn is_open(&self, within: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < within
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;

    fn rule() -> BanPolicy {
        BanPolicy {
            failures: NonZeroU32::new(3).unwrap(),
            within: Duration::from_secs(10),
            duration: Duration::from_mins(1),
            never: Vec::new(),
        }
    }

    #[test]
    fn so_many_failures_within_the_time_are_a_ban_and_then_it_begins_anew() {
        let (failures, rule, start) = (HandshakeFailures::default(), rule(), Instant::now());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |seconds| start + Duration::from_secs(seconds);
        let told = [
            failures.count(one, &rule, at(0)),
            failures.count(one, &rule, at(4)),
            failures.count(other, &rule, at(5)),
            failures.count(one, &rule, at(9)),
            failures.count(one, &rule, at(9)),
        ];
        assert_eq!(told, [false, false, false, true, false]);
        assert!(
            !failures.count(one, &rule, at(19)),
            "two windows of one each"
        );
        assert!(!failures.count(one, &rule, at(20)));
        assert!(failures.count(one, &rule, at(28)));
    }

    #[test]
    fn no_more_sources_are_remembered_than_there_is_room_for() {
        let (failures, rule, start) = (HandshakeFailures::default(), rule(), Instant::now());
        let source = |n: usize| IpAddr::from(Ipv4Addr::from(u32::try_from(n).unwrap()));
        let remembered = || failures.0.lock().windows.len();
        for n in 0..MOST_SOURCES {
            assert!(!failures.count(source(n), &rule, start));
        }
        let one_more = source(MOST_SOURCES);

        let early = start + rule.within / 2;
        failures.count(one_more, &rule, early);
        assert_eq!(remembered(), MOST_SOURCES);
        let over = start + rule.within;
        failures.count(one_more, &rule, over);
        assert_eq!(
            remembered(),
            MOST_SOURCES,
            "not looked through again so soon"
        );
        let due = early + rule.within;
        failures.count(one_more, &rule, due);
        assert_eq!(remembered(), 1, "there is room again");
    }
}
