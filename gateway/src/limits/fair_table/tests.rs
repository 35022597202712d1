use std::pin::pin;
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;

const MANY: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);

fn source(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_evicted(slot: &FairSlot) -> bool {
    let evicted = pin!(slot.evicted());
    let mut context = Context::from_waker(Waker::noop());
    evicted.poll(&mut context).is_ready()
}

fn enter(table: &Arc<FairTable>, sources: &[&str]) -> Vec<FairSlot> {
    let now = Instant::now();
    let enter = |text: &&str| table.enter(source(text), MANY, now);
    sources.iter().map(enter).collect()
}

/// Evicts so often, and says which of the slots were met, in the order in which they entered.
fn evict(table: &FairTable, times: usize, slots: &[FairSlot]) -> Vec<usize> {
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
    let bounds = TableBounds {
        all: 3,
        per_source: 3,
        grace: SECOND,
    };
    let enter = |from, at| table.enter_within(source(from), &bounds, at);
    let late = now + 2 * SECOND;
    assert_eq!(
        enter(three, now).err(),
        Some(TableFull::All),
        "it is not late"
    );
    assert_eq!(
        enter(one, late).err(),
        Some(TableFull::All),
        "it is its own"
    );
    assert_eq!(
        enter(two, late).err(),
        Some(TableFull::All),
        "nothing is gained"
    );
    let _third = enter(three, late).unwrap();
    assert!(is_evicted(&slots[0]));
    assert_eq!(
        enter("192.0.9.9", late).err(),
        Some(TableFull::All),
        "all have one now"
    );
    let full = TableBounds {
        all: 9,
        per_source: 1,
        ..bounds
    };
    let refused = table.enter_within(source(one), &full, late).err();
    assert_eq!(refused, Some(TableFull::Source));
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
