//! Entries by source, of which the oldest of the source that has most gives way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The networks that share a bound, from the widest to one source. An IPv4 provider's network, an
/// address; an IPv6 provider's customer, one of its sites, one of the site's networks (RFC 6177).
const V4_LENGTHS: [u8; LEVELS] = [16, 24, 32];
const V6_LENGTHS: [u8; LEVELS] = [48, 56, 64];
const LEVELS: usize = 3;
/// How many bits of a mapped address stand before the IPv4 address (RFC 4291, 2.5.5.2).
const MAPPED: u8 = 96;

/// Entries that each have a source, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct FairTable(Mutex<Entries>);

/// One entry of a table, which leaves it on drop.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub(super) struct Slot {
    table: Arc<FairTable>,
    ticket: Ticket,
    evicted: Arc<Notify>,
}

/// What a table may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) per_source: usize,
    /// How old an entry has to be before it gives way.
    pub(super) grace: Duration,
}

/// Which of its bounds a table has reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Source,
}

type Ticket = u64;

/// A network: its bits, and how many of them count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Network {
    bits: u128,
    length: u8,
}

/// A network's place among those of the same wider network: the last one has the most entries, and of
/// those that have equally many the oldest.
type Rank = (Network, usize, Reverse<Ticket>, Network);

#[derive(Debug)]
struct Entry {
    source: Networks,
    since: Instant,
    evicted: Arc<Notify>,
}

/// All that there is, and the networks, and those that a source belongs to, from the widest on.
type Networks = [Network; LEVELS + 1];

#[derive(Debug, Default)]
struct Entries {
    next: Ticket,
    by_ticket: BTreeMap<Ticket, Entry>,
    members: BTreeSet<(Network, Ticket)>,
    counts: BTreeMap<Network, usize>,
    ranking: BTreeSet<Rank>,
}

impl FairTable {
    /// Adds an entry of a source. If there are `most`, the oldest entry of the source that has most gives
    /// way.
    pub(super) fn enter(self: &Arc<Self>, source: IpAddr, most: usize, now: Instant) -> Slot {
        let mut entries = self.0.lock();
        while entries.by_ticket.len() >= most.max(1)
            && let Some(victim) = entries.victim()
        {
            entries.evict(victim);
        }
        self.insert(&mut entries, source, now)
    }

    /// Adds an entry of a source within `bounds`. If there is no room, an entry gives way only to a source
    /// that has fewer, and only after [`Bounds::grace`]: under many clients who come all at once, those
    /// who were first have to get to an end.
    pub(super) fn enter_within(
        self: &Arc<Self>,
        source: IpAddr,
        bounds: &Bounds,
        now: Instant,
    ) -> Result<Slot, Full> {
        let mut entries = self.0.lock();
        let [.., narrowest] = networks(source);
        if entries.count(narrowest) >= bounds.per_source {
            return Err(Full::Source);
        }
        if entries.by_ticket.len() >= bounds.all {
            let victim = entries.victim_for(source, bounds.grace, now);
            entries.evict(victim.ok_or(Full::All)?);
        }
        Ok(self.insert(&mut entries, source, now))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().by_ticket.len()
    }

    /// Takes the oldest entry of the source that has most out of the table. Says whether there was one.
    pub(super) fn evict(&self) -> bool {
        let mut entries = self.0.lock();
        let victim = entries.victim();
        victim.is_some_and(|victim| entries.evict(victim))
    }

    fn insert(self: &Arc<Self>, entries: &mut Entries, source: IpAddr, now: Instant) -> Slot {
        let evicted = Arc::new(Notify::new());
        let ticket = entries.insert(Entry {
            source: networks(source),
            since: now,
            evicted: Arc::clone(&evicted),
        });
        Slot {
            table: Arc::clone(self),
            ticket,
            evicted,
        }
    }
}

impl Slot {
    /// Waits until the entry has given way to another. Cancel safe.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.0.lock().remove(self.ticket);
    }
}

impl Entries {
    fn insert(&mut self, entry: Entry) -> Ticket {
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

    fn remove(&mut self, ticket: Ticket) -> Option<Entry> {
        let entry = self.by_ticket.remove(&ticket)?;
        self.change(&entry.source, |entries, network| {
            entries.members.remove(&(network, ticket));
            entries.count(network) - 1
        });
        Some(entry)
    }

    fn evict(&mut self, ticket: Ticket) -> bool {
        let evicted = self.remove(ticket);
        if let Some(entry) = &evicted {
            entry.evicted.notify_one();
        }
        evicted.is_some()
    }

    /// Changes the members of each of a source's networks; `change` returns the new count.
    fn change(&mut self, source: &Networks, change: impl Fn(&mut Self, Network) -> usize) {
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

    fn rank(&self, wider: Network, network: Network) -> Option<Rank> {
        let oldest = self.oldest(network)?;
        Some((wider, self.count(network), Reverse(oldest), network))
    }

    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }

    fn oldest(&self, network: Network) -> Option<Ticket> {
        let members = (network, Ticket::MIN)..=(network, Ticket::MAX);
        self.members.range(members).next().map(|member| member.1)
    }

    /// The oldest entry of the narrowest network that has most, of those within the next wider one that
    /// has most, and so on.
    fn victim(&self) -> Option<Ticket> {
        let mut network = Network::ALL;
        for _ in 0..LEVELS {
            let least = (network, 0, Reverse(Ticket::MAX), Network::ALL);
            let most = (network, usize::MAX, Reverse(Ticket::MIN), Network::ALL);
            network = self.ranking.range(least..=most).next_back()?.3;
        }
        self.oldest(network)
    }

    /// The same for the sake of one more entry of `source`: only if the victim's network has more than
    /// that of `source` would have, and has had it for at least `grace`.
    fn victim_for(&self, source: IpAddr, grace: Duration, now: Instant) -> Option<Ticket> {
        let victim = self.victim()?;
        let entry = self.by_ticket.get(&victim)?;
        let is_late = now.saturating_duration_since(entry.since) >= grace;
        let own = networks(source);
        let differ = |(theirs, own): &(&Network, &Network)| theirs != own;
        let (theirs, own) = entry.source.iter().zip(&own).find(differ)?;
        (is_late && self.count(*theirs) > self.count(*own) + 1).then_some(victim)
    }
}

impl Network {
    const ALL: Self = Self { bits: 0, length: 0 };

    fn new(address: u128, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self {
            bits: address & mask,
            length,
        }
    }
}

fn networks(source: IpAddr) -> Networks {
    let (bits, lengths) = match source.to_canonical() {
        IpAddr::V4(address) => (
            address.to_ipv6_mapped().to_bits(),
            V4_LENGTHS.map(|length| length + MAPPED),
        ),
        IpAddr::V6(address) => (address.to_bits(), V6_LENGTHS),
    };
    let [wide, middle, narrow] = lengths.map(|length| Network::new(bits, length));
    [Network::ALL, wide, middle, narrow]
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use proptest::prelude::*;

    use super::*;

    const MANY: usize = 1000;
    const SECOND: Duration = Duration::from_secs(1);

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_evicted(slot: &Slot) -> bool {
        let evicted = pin!(slot.evicted());
        let mut context = Context::from_waker(Waker::noop());
        evicted.poll(&mut context).is_ready()
    }

    fn enter(table: &Arc<FairTable>, sources: &[&str]) -> Vec<Slot> {
        let now = Instant::now();
        let enter = |text: &&str| table.enter(source(text), MANY, now);
        sources.iter().map(enter).collect()
    }

    /// Evicts so often, and says which of the slots were met, in the order in which they entered.
    fn evict(table: &FairTable, times: usize, slots: &[Slot]) -> Vec<usize> {
        for _ in 0..times {
            assert!(table.evict());
        }
        (0..slots.len())
            .filter(|&n| is_evicted(&slots[n]))
            .collect()
    }

    #[test]
    fn the_oldest_of_the_source_that_has_most_gives_way() {
        let (one, two, three) = ("192.0.2.1", "198.51.100.1", "203.0.113.1");
        let table = Arc::default();
        let slots = enter(&table, &[one, two, two, three]);
        assert_eq!(evict(&table, 1, &slots), [1]);
        let oldest = evict(&table, 1, &slots);
        assert_eq!(oldest, [0], "the oldest of all, as all have one");
        drop(slots);
        assert_eq!(table.len(), 0);
        assert!(!table.evict(), "there is nothing left");
    }

    #[test]
    fn a_newcomer_gets_a_place_in_a_full_table() {
        let (table, now) = (Arc::default(), Instant::now());
        let slots = enter(&table, &["192.0.2.1", "198.51.100.1", "198.51.100.1"]);
        let newcomer = table.enter(source("203.0.113.1"), 3, now);
        assert_eq!(evict(&table, 0, &slots), [1]);
        assert!(!is_evicted(&newcomer));
        assert_eq!(table.len(), 3);
        let _lowered = table.enter(source("203.0.113.1"), 1, now);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn many_sources_of_one_network_are_one_to_others() {
        let (v4, v6) = ("198.51.100.1", "2001:db8:1::1");
        for (honest, network) in [
            (v4, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
            (v4, ["192.0.2.1", "192.0.3.2", "192.0.4.3"]),
            (v6, ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"]),
            (v6, ["2001:db8::", "2001:db8:0:100::", "2001:db8:0:200::"]),
        ] {
            let table = Arc::default();
            let slots = enter(&table, &[&[honest][..], &network].concat());
            assert_eq!(evict(&table, 2, &slots), [1, 2], "{honest} {network:?}");
        }
    }

    #[test]
    fn who_shares_a_network_with_a_flood_is_not_taken_for_it() {
        let table = Arc::default();
        let flood = "192.0.2.1";
        let slots = enter(&table, &["192.0.2.9", flood, flood, flood]);
        assert_eq!(evict(&table, 2, &slots), [1, 2]);
    }

    #[test]
    fn a_place_is_taken_only_from_who_has_more_and_has_had_it_for_long() {
        let (table, now) = (Arc::<FairTable>::default(), Instant::now());
        let (one, two, three) = ("192.0.2.1", "198.51.100.1", "203.0.113.1");
        let slots = enter(&table, &[one, one, two]);
        let bounds = Bounds {
            all: 3,
            per_source: 3,
            grace: SECOND,
        };
        let enter = |from, at| table.enter_within(source(from), &bounds, at);
        let late = now + 2 * SECOND;
        assert_eq!(enter(three, now).err(), Some(Full::All), "it is not late");
        assert_eq!(enter(one, late).err(), Some(Full::All), "it is its own");
        assert_eq!(enter(two, late).err(), Some(Full::All), "nothing is gained");
        let _third = enter(three, late).unwrap();
        assert!(is_evicted(&slots[0]));
        assert_eq!(
            enter("192.0.9.9", late).err(),
            Some(Full::All),
            "all have one now"
        );
        let full = Bounds {
            all: 9,
            per_source: 1,
            ..bounds
        };
        let refused = table.enter_within(source(one), &full, late).err();
        assert_eq!(refused, Some(Full::Source));
    }

    proptest! {
        #[test]
        fn a_table_is_empty_when_all_have_left_whatever_happened(
            moves in prop::collection::vec((0..3_u8, any::<u8>()), 1..100),
        ) {
            let (table, mut slots) = (Arc::<FairTable>::default(), Vec::new());
            let mut evicted = 0;
            for (kind, n) in moves {
                let source = IpAddr::from([10, n & 1, n & 2, n & 4]);
                match kind {
                    0 => slots.push(table.enter(source, MANY, Instant::now())),
                    1 if !slots.is_empty() => {
                        let slot = slots.swap_remove(usize::from(n) % slots.len());
                        evicted -= usize::from(is_evicted(&slot));
                    }
                    _ => evicted += usize::from(table.evict()),
                }
                prop_assert_eq!(table.len(), slots.len() - evicted);
            }
            drop(slots);
            let entries = table.0.lock();
            prop_assert!(entries.members.is_empty());
            prop_assert!(entries.counts.is_empty());
            prop_assert!(entries.ranking.is_empty());
        }
    }
}
