//! Identifiers that are unique among all processes, restarts and machines.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identifier in the form of a UUID of version 7 (RFC 9562): identifiers sort by the time in
/// milliseconds at which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueId(u64, u64);

/// Maker of [`UniqueId`]s.
///
/// Behind the time stands a counter of 62 bits that begins at a random number, with 12 random bits
/// before it. Within a process the counter makes each identifier different from all others, and two
/// processes have the same only if their random numbers meet in the same millisecond. So an
/// identifier costs no system call.
#[derive(Debug)]
pub struct UniqueIdSource {
    prefix: u16,
    next: AtomicU64,
}

const VERSION: u64 = 7 << 12;
const VARIANT: u64 = 2 << 62;
const PREFIX_MASK: u16 = 0x0fff;
const COUNTER_MASK: u64 = (1 << 62) - 1;

impl Default for UniqueIdSource {
    /// Creates a source with random numbers of the operating system.
    fn default() -> Self {
        // The keys of each state come from the system's random numbers, and so does a hash.
        let random = |what: u8| RandomState::new().hash_one((what, std::process::id()));
        let [prefix, ..] = random(0).to_be_bytes();
        let [second, ..] = random(1).to_be_bytes();
        Self {
            prefix: u16::from_be_bytes([prefix, second]) & PREFIX_MASK,
            next: AtomicU64::new(random(2)),
        }
    }
}

impl UniqueIdSource {
    /// Returns an identifier that no other call returns, of this process or another.
    pub fn next(&self) -> UniqueId {
        // A clock before 1970 counts as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        // It has 48 bits, which are enough until the year 10889.
        let millis = u64::try_from(millis).unwrap_or(0);
        let count = self.next.fetch_add(1, Relaxed) & COUNTER_MASK;
        UniqueId(
            millis << 16 | VERSION | u64::from(self.prefix),
            VARIANT | count,
        )
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, second) = self;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            first >> 32,
            first >> 16 & 0xffff,
            first & 0xffff,
            second >> 48,
            second & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_identifier_is_a_uuid_of_version_7_with_the_time_in_front() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let id = UniqueIdSource::default().next().to_string();
        let parts: Vec<&str> = id.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert!(parts[2].starts_with('7'), "{id}");
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        let millis = u128::from_str_radix(&parts[..2].concat(), 16).unwrap();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!((before.as_millis()..=after.as_millis()).contains(&millis));
    }

    #[test]
    fn the_counter_of_a_source_may_pass_its_end() {
        let source = UniqueIdSource {
            prefix: PREFIX_MASK,
            next: AtomicU64::new(u64::MAX),
        };
        let all: Vec<String> = (0..2).map(|_| source.next().to_string()).collect();
        assert!(all[0].ends_with("-7fff-bfff-ffffffffffff"), "{all:?}");
        assert!(all[1].ends_with("-7fff-8000-000000000000"), "{all:?}");
    }

    #[test]
    fn identifiers_of_many_sources_are_all_different() {
        let sources: Vec<UniqueIdSource> = (0..100).map(|_| UniqueIdSource::default()).collect();
        let ids: BTreeSet<UniqueId> = (0..100)
            .flat_map(|_| sources.iter().map(UniqueIdSource::next))
            .collect();
        assert_eq!(ids.len(), 100 * 100);
    }
}
