//! A table of entries by source, where the oldest entry of the source that has most gives way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Prefix lengths of the networks that share a bound, from the widest to one source. IPv4: a
/// provider's network, a smaller one, an address. IPv6: a provider's customer, one of its sites,
/// one of the site's networks (RFC 6177).
const V4_LENGTHS: [u8; LEVELS] = [16, 24, 32];
const V6_LENGTHS: [u8; LEVELS] = [48, 56, 64];
const LEVELS: usize = 3;
/// Number of bits before the IPv4 address in a mapped address (RFC 4291, 2.5.5.2).
const MAPPED: u8 = 96;

/// A table of entries that each have a source, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct FairTable(Mutex<TableEntries>);

/// One entry of a table; it is removed on drop.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub(super) struct FairSlot {
    table: Arc<FairTable>,
    ticket: EntryNumber,
    evicted: Arc<Notify>,
}

/// The bounds of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableBounds {
    pub(super) all: usize,
    pub(super) per_source: usize,
    /// Minimum age of an entry before it gives way.
    pub(super) grace: Duration,
}

/// The bound that a table has reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TableFull {
    All,
    Source,
}

type EntryNumber = u64;

/// A network: its bits, and the number of them that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SourceNetwork {
    bits: u128,
    length: u8,
}

/// A network's rank among those of the same wider network: the last one has the most entries, and
/// of the ones with equally many the oldest.
type NetworkRank = (SourceNetwork, usize, Reverse<EntryNumber>, SourceNetwork);

#[derive(Debug)]
struct TableEntry {
    source: EnclosingNetworks,
    since: Instant,
    evicted: Arc<Notify>,
}

/// The networks that a source belongs to, from the one of all addresses to the narrowest.
type EnclosingNetworks = [SourceNetwork; LEVELS + 1];

#[derive(Debug, Default)]
struct TableEntries {
    next: EntryNumber,
    by_ticket: BTreeMap<EntryNumber, TableEntry>,
    members: BTreeSet<(SourceNetwork, EntryNumber)>,
    counts: BTreeMap<SourceNetwork, usize>,
    ranking: BTreeSet<NetworkRank>,
}

impl FairTable {
    /// Adds an entry of a source. If there are `most` entries, the oldest entry of the source that
    /// has most gives way.
    pub(super) fn enter(self: &Arc<Self>, source: IpAddr, most: usize, now: Instant) -> FairSlot {
        let mut entries = self.0.lock();
        while entries.by_ticket.len() >= most.max(1)
            && let Some(victim) = entries.victim()
        {
            entries.evict(victim);
        }
        self.insert(&mut entries, source, now)
    }

    /// Adds an entry of a source within `bounds`. If the table is full, an entry gives way only to
    /// a source that has fewer entries, and only after [`TableBounds::grace`]: when many clients
    /// arrive together, the first of them must be able to finish.
    pub(super) fn enter_within(
        self: &Arc<Self>,
        source: IpAddr,
        bounds: &TableBounds,
        now: Instant,
    ) -> Result<FairSlot, TableFull> {
        let mut entries = self.0.lock();
        let [.., narrowest] = networks(source);
        if entries.count(narrowest) >= bounds.per_source {
            return Err(TableFull::Source);
        }
        if entries.by_ticket.len() >= bounds.all {
            let victim = entries.victim_for(source, bounds.grace, now);
            entries.evict(victim.ok_or(TableFull::All)?);
        }
        Ok(self.insert(&mut entries, source, now))
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.0.lock().by_ticket.len()
    }

    /// Evicts the oldest entry of the source that has most. Returns true if there was one.
    pub(super) fn evict(&self) -> bool {
        let mut entries = self.0.lock();
        let victim = entries.victim();
        victim.is_some_and(|victim| entries.evict(victim))
    }

    fn insert(
        self: &Arc<Self>,
        entries: &mut TableEntries,
        source: IpAddr,
        now: Instant,
    ) -> FairSlot {
        let evicted = Arc::new(Notify::new());
        let ticket = entries.insert(TableEntry {
            source: networks(source),
            since: now,
            evicted: Arc::clone(&evicted),
        });
        FairSlot {
            table: Arc::clone(self),
            ticket,
            evicted,
        }
    }
}

impl FairSlot {
    /// Waits until the entry is evicted. Cancel safe.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        self.table.0.lock().remove(self.ticket);
    }
}

impl TableEntries {
    fn insert(&mut self, entry: TableEntry) -> EntryNumber {
        let ticket = self.next;
        self.next += 1;
        let source = entry.source;
        self.by_ticket.insert(ticket, entry);
        self.change(&source, |entries, network| {
            entries.members.insert((network, ticket));
            entries.count(network) + 1
        });
        ticket
    }

    fn remove(&mut self, ticket: EntryNumber) -> Option<TableEntry> {
        let entry = self.by_ticket.remove(&ticket)?;
        self.change(&entry.source, |entries, network| {
            entries.members.remove(&(network, ticket));
            entries.count(network) - 1
        });
        Some(entry)
    }

    fn evict(&mut self, ticket: EntryNumber) -> bool {
        let evicted = self.remove(ticket);
        if let Some(entry) = &evicted {
            entry.evicted.notify_one();
        }
        evicted.is_some()
    }

    /// Changes the members of each of a source's networks; `change` returns the new count.
    fn change(
        &mut self,
        source: &EnclosingNetworks,
        change: impl Fn(&mut Self, SourceNetwork) -> usize,
    ) {
        for pair in source.windows(2) {
            let &[wider, network] = pair else { continue };
            if let Some(rank) = self.rank(wider, network) {
                self.ranking.remove(&rank);
            }
            match change(self, network) {
                0 => drop(self.counts.remove(&network)),
                count => drop(self.counts.insert(network, count)),
            }
            if let Some(rank) = self.rank(wider, network) {
                self.ranking.insert(rank);
            }
        }
    }

    fn rank(&self, wider: SourceNetwork, network: SourceNetwork) -> Option<NetworkRank> {
        let oldest = self.oldest(network)?;
        Some((wider, self.count(network), Reverse(oldest), network))
    }

    fn count(&self, network: SourceNetwork) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }

    fn oldest(&self, network: SourceNetwork) -> Option<EntryNumber> {
        let members = (network, EntryNumber::MIN)..=(network, EntryNumber::MAX);
        self.members.range(members).next().map(|member| member.1)
    }

    /// Returns the oldest entry of the narrowest network that has most entries, among those within
    /// the next wider network that has most, and so on.
    fn victim(&self) -> Option<EntryNumber> {
        let mut network = SourceNetwork::ALL;
        for _ in 0..LEVELS {
            let least = (network, 0, Reverse(EntryNumber::MAX), SourceNetwork::ALL);
            let most = (
                network,
                usize::MAX,
                Reverse(EntryNumber::MIN),
                SourceNetwork::ALL,
            );
            network = self.ranking.range(least..=most).next_back()?.3;
        }
        self.oldest(network)
    }

    /// Returns the entry that gives way to one more entry of `source`: the same as `victim`, but
    /// only if the victim's network has more entries than that of `source` would have, and the
    /// victim is at least `grace` old.
    fn victim_for(&self, source: IpAddr, grace: Duration, now: Instant) -> Option<EntryNumber> {
        let victim = self.victim()?;
        let entry = self.by_ticket.get(&victim)?;
        let is_late = now.saturating_duration_since(entry.since) >= grace;
        let own = networks(source);
        let differ = |(theirs, own): &(&SourceNetwork, &SourceNetwork)| theirs != own;
        let (theirs, own) = entry.source.iter().zip(&own).find(differ)?;
        (is_late && self.count(*theirs) > self.count(*own) + 1).then_some(victim)
    }
}

impl SourceNetwork {
    const ALL: Self = Self { bits: 0, length: 0 };

    fn new(address: u128, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self {
            bits: address & mask,
            length,
        }
    }
}

fn networks(source: IpAddr) -> EnclosingNetworks {
    let (bits, lengths) = match source.to_canonical() {
        IpAddr::V4(address) => (
            address.to_ipv6_mapped().to_bits(),
            V4_LENGTHS.map(|length| length + MAPPED),
        ),
        IpAddr::V6(address) => (address.to_bits(), V6_LENGTHS),
    };
    let [wide, middle, narrow] = lengths.map(|length| SourceNetwork::new(bits, length));
    [SourceNetwork::ALL, wide, middle, narrow]
}

#[cfg(test)]
mod tests;
