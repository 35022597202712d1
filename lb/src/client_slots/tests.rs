//! Whoever waits for a place gets it in turn, and nobody gets one above the limit.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime;
use tokio::time::timeout;

use super::*;

/// How often each thread comes.
const VISITS: usize = 3_000;
const THREADS: usize = 4;
const LIMIT: u32 = 2;

fn at_most(n: u32) -> Limit {
    Limit::AtMost(NonZeroU32::new(n).unwrap())
}

fn name() -> SharedName {
    "billing".into()
}

/// The slot of one that waits, if it was granted one.
fn given(waiting: &mut QueuedSlot) -> Option<ClientSlot> {
    match pin!(waiting.granted()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(admission) => Some(admission),
        Poll::Pending => None,
    }
}

fn wait(places: &ClientSlots, limit: u32) -> QueuedSlot {
    match places.claim_or_wait(&name(), at_most(limit), Instant::now()) {
        Some(SlotOutcome::Queued(waiting)) => waiting,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_place_goes_to_whoever_came_first_and_nobody_overtakes() {
    let places = ClientSlots::default();
    let held = places.claim(&name(), at_most(2)).unwrap();
    let also = places.claim(&name(), at_most(2)).unwrap();
    let (mut first, mut second) = (wait(&places, 2), wait(&places, 2));
    assert!(given(&mut first).is_none());
    drop(held);
    assert!(places.claim(&name(), at_most(2)).is_none());
    assert!(given(&mut second).is_none());
    let third = given(&mut first).expect("it came first");
    assert!(
        places.claim(&name(), at_most(3)).is_none(),
        "a wider limit is for those who wait, too"
    );
    drop((also, third));
    assert!(given(&mut second).is_some());
}

#[test]
fn an_older_turn_comes_first_whoever_asks_later() {
    let places = ClientSlots::default();
    let held = places.claim(&name(), at_most(2)).unwrap();
    let also = places.claim(&name(), at_most(2)).unwrap();
    let now = Instant::now();
    let line = |since| places.claim_or_wait(&name(), at_most(2), since);
    let Some(SlotOutcome::Queued(mut young)) = line(now) else {
        panic!("all places are taken");
    };
    let Some(SlotOutcome::Queued(mut old)) = line(now - Duration::from_secs(1)) else {
        panic!("all places are taken");
    };
    assert!(line(now).is_none(), "as many wait as may be open");
    let Some(SlotOutcome::Queued(second)) = line(now - Duration::from_millis(500)) else {
        panic!("only one waits ahead of it");
    };
    let late = line(now - Duration::from_millis(250));
    assert!(late.is_none(), "as many wait ahead as may be open");
    drop(held);
    assert!(given(&mut young).is_none() && given(&mut old).is_some());
    drop((also, old, second, young));
    assert_eq!(places.clients(), 0);
}

#[test]
fn a_raised_limit_lets_those_in_who_wait_and_one_who_leaves_holds_up_nobody() {
    let places = ClientSlots::default();
    let _held = places.claim(&name(), at_most(1)).unwrap();
    let mut first = wait(&places, 1);
    first.set_limit(at_most(2));
    let _second = given(&mut first).expect("there is room now");
    let blocking = wait(&places, 2);
    let mut behind = wait(&places, 2);
    behind.set_limit(at_most(3));
    assert!(given(&mut behind).is_none(), "it is not first");
    drop(blocking);
    assert!(given(&mut behind).is_some());
}

/// What may happen to a client's slots.
#[derive(Debug, Clone)]
enum Step {
    Come,
    Wait,
    Adopt,
    Leave(usize),
    GiveUp(usize),
    Look(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Come),
        Just(Step::Wait),
        Just(Step::Wait),
        Just(Step::Adopt),
        any::<usize>().prop_map(Step::Leave),
        any::<usize>().prop_map(Step::GiveUp),
        any::<usize>().prop_map(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: so many are in, and those in line are admitted from the front as soon as there is
    /// room.
    #[test]
    fn places_are_given_in_turn_and_never_above_the_limit(limit in 1_u32..4, steps in vec(any_step(), 0..60)) {
        let places = ClientSlots::default();
        let limited = at_most(limit);
        let mut open: Vec<ClientSlot> = Vec::new();
        let mut line: Vec<QueuedSlot> = Vec::new();
        // How many of the line, from the front, have been given a place that they have not looked
        // for.
        let mut granted = 0;
        for step in steps {
            let taken = u32::try_from(open.len() + granted).unwrap();
            let waits = line.len() - granted;
            match step {
                Step::Come => {
                    let came = places.claim(&name(), limited);
                    prop_assert_eq!(came.is_some(), taken < limit && waits == 0);
                    open.extend(came);
                }
                Step::Wait => match places.claim_or_wait(&name(), limited, Instant::now()) {
                    Some(SlotOutcome::Granted(admission)) => {
                        prop_assert!(taken < limit);
                        open.push(admission);
                    }
                    Some(SlotOutcome::Queued(waiting)) => {
                        prop_assert!(taken >= limit && waits < limit as usize);
                        line.push(waiting);
                    }
                    None => prop_assert!(waits >= limit as usize),
                },
                Step::Adopt => open.push(places.claim_unlimited(&name())),
                Step::Leave(which) if !open.is_empty() => drop(open.remove(which % open.len())),
                Step::GiveUp(which) if !line.is_empty() => {
                    let which = which % line.len();
                    drop(line.remove(which));
                    granted -= usize::from(which < granted);
                }
                Step::Look(which) if !line.is_empty() => {
                    let which = which % line.len();
                    let place = given(&mut line[which]);
                    prop_assert_eq!(place.is_some(), which < granted);
                    if let Some(place) = place {
                        drop(line.remove(which));
                        granted -= 1;
                        open.push(place);
                    }
                }
                Step::Leave(_) | Step::GiveUp(_) | Step::Look(_) => {}
            }
            while open.len() + granted < limit as usize && granted < line.len() {
                granted += 1;
            }
            prop_assert_eq!(places.open("billing") as usize, open.len() + granted);
            prop_assert_eq!(places.waiting("billing"), line.len() - granted);
        }
        drop((open, line));
        prop_assert_eq!(places.clients(), 0);
    }
}

/// Comes, waits if it must, but not always to the end, and stays for a moment.
async fn visit(places: &ClientSlots, inside: &AtomicU32, number: usize) -> bool {
    let patience = Duration::from_micros(if number.is_multiple_of(3) {
        1
    } else {
        5_000_000
    });
    let place = match places.claim_or_wait(&name(), at_most(LIMIT), Instant::now()) {
        Some(SlotOutcome::Granted(admission)) => Some(admission),
        Some(SlotOutcome::Queued(mut waiting)) => timeout(patience, waiting.granted()).await.ok(),
        None => None,
    };
    let is_in = place.is_some();
    if is_in {
        assert!(inside.fetch_add(1, SeqCst) < LIMIT, "too many are in");
        tokio::task::yield_now().await;
        inside.fetch_sub(1, SeqCst);
    }
    assert!(
        is_in || number.is_multiple_of(3) || THREADS > 2 * LIMIT as usize,
        "a place was lost"
    );
    is_in
}

#[test]
fn threads_that_come_wait_and_give_up_lose_no_place_and_are_never_too_many() {
    let (places, inside) = (ClientSlots::default(), AtomicU32::new(0));
    let come_and_go = || {
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async {
            for number in 0..VISITS {
                visit(&places, &inside, number).await;
            }
        });
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(come_and_go))));
    assert_eq!(places.clients(), 0);
}
