//! A client gets as many connections, and as often, as its limits say.

use std::num::NonZeroU32;
use std::thread;

use governor::clock::FakeRelativeClock;

use super::*;

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn at_most(n: u32) -> ClientLimits {
    ClientLimits {
        connections: Limit::AtMost(number(n)),
        ..ClientLimits::default()
    }
}

fn per_second(n: u32) -> ClientLimits {
    ClientLimits {
        rate: Some(Rate::per_second(number(n))),
        ..ClientLimits::default()
    }
}

fn limiter() -> (Limiter<FakeRelativeClock>, FakeRelativeClock, SharedName) {
    let clock = FakeRelativeClock::default();
    (Limiter::new(clock.clone()), clock, "billing".into())
}

#[test]
fn a_client_may_have_its_limit_open_and_no_more() {
    let (limiter, _, client) = limiter();
    let first = limiter.admit(&client, &at_most(2)).unwrap();
    let _second = limiter.admit(&client, &at_most(2)).unwrap();
    let limit = at_most(2).connections;
    assert_eq!(
        limiter.admit(&client, &at_most(2)).unwrap_err(),
        ClientDenied::ClientConnections { limit }
    );
    drop(first);
    assert!(
        limiter.admit(&client, &at_most(2)).is_ok(),
        "a returned connection is free again"
    );
    assert_eq!(limiter.open("billing"), 1);
}

#[test]
fn one_client_cannot_use_up_what_another_may() {
    let (limiter, _, client) = limiter();
    let _held = limiter.admit(&client, &at_most(1)).unwrap();
    let other = limiter.admit(&"reports".into(), &at_most(1)).unwrap();
    assert_eq!(&**other.client(), "reports");
    assert_eq!(limiter.clients(), 2);
}

#[test]
fn lowering_a_limit_refuses_new_connections_and_cuts_none() {
    let (limiter, _, client) = limiter();
    let held: Vec<_> = (0..3)
        .map(|_| limiter.admit(&client, &at_most(3)).unwrap())
        .collect();
    assert!(limiter.admit(&client, &at_most(1)).is_err());
    assert_eq!(limiter.open("billing"), 3);
    drop(held);
    assert_eq!(
        (limiter.open("billing"), limiter.clients()),
        (0, 0),
        "nothing is remembered"
    );
}

#[test]
fn an_adopted_connection_counts_beyond_the_limit_and_towards_it() {
    let (limiter, _, client) = limiter();
    let adopted = [
        limiter.admit_unlimited(&client),
        limiter.admit_unlimited(&client),
    ];
    assert!(limiter.admit(&client, &at_most(2)).is_err());
    let _beyond = limiter.admit_unlimited(&client);
    drop(adopted);
    assert!(limiter.admit(&client, &at_most(2)).is_ok());
    assert_eq!(limiter.open("billing"), 1);
}

#[test]
fn a_client_may_come_as_often_as_its_rate_and_again_later() {
    let (limiter, clock, client) = limiter();
    let come = || limiter.admit(&client, &per_second(5)).map(drop);
    assert!((0..5).all(|_| come().is_ok()), "a burst of five");
    let rate = Rate::per_second(number(5));
    assert_eq!(come(), Err(ClientDenied::ClientRate { rate }));
    clock.advance(Duration::from_millis(200));
    assert!(
        come().is_ok(),
        "one fifth of a second later there is room for one"
    );
    assert!(come().is_err(), "and only one");
    clock.advance(Duration::from_secs(10));
    assert!(
        (0..5).all(|_| come().is_ok()) && come().is_err(),
        "a pause never saves up more"
    );
}

#[test]
fn a_refusal_by_rate_gives_the_connection_back() {
    let (limiter, _, client) = limiter();
    let limits = ClientLimits {
        connections: Limit::AtMost(number(2)),
        ..per_second(1)
    };
    let _held = limiter.admit(&client, &limits).unwrap();
    assert!(matches!(
        limiter.admit(&client, &limits),
        Err(ClientDenied::ClientRate { .. })
    ));
    assert_eq!(limiter.open("billing"), 1);
}

#[test]
fn a_refusal_by_count_does_not_use_up_the_rate() {
    let (limiter, _, client) = limiter();
    let limits = ClientLimits {
        connections: Limit::AtMost(number(1)),
        ..per_second(2)
    };
    let held = limiter.admit(&client, &limits).unwrap();
    assert!(matches!(
        limiter.admit(&client, &limits),
        Err(ClientDenied::ClientConnections { .. })
    ));
    drop(held);
    assert!(
        limiter.admit(&client, &limits).is_ok(),
        "the second event was still there"
    );
}

#[test]
fn idle_clients_and_unused_rates_are_forgotten_but_not_recent_ones() {
    let (limiter, clock, client) = limiter();
    drop(limiter.admit(&client, &per_second(1)).unwrap());
    limiter.forget_idle();
    assert!(
        limiter.admit(&client, &per_second(1)).is_err(),
        "forgetting forgives nobody"
    );
    clock.advance(Duration::from_mins(1));
    drop(limiter.admit(&"reports".into(), &per_second(1)).unwrap());
    assert_eq!(limiter.remembered(), 2);
    limiter.forget_idle();
    assert_eq!(limiter.remembered(), 1);
    clock.advance(Duration::from_mins(1));
    limiter.forget_idle();
    assert_eq!((limiter.remembered(), limiter.rates.len()), (0, 0));
}

#[test]
fn a_panic_returns_the_admission() {
    let limiter = Limiter::default();
    let client: SharedName = "billing".into();
    let panicked = thread::scope(|scope| {
        let connection = scope.spawn(|| {
            let _admission = limiter.admit(&client, &at_most(1)).unwrap();
            panic!("a bug in one connection");
        });
        connection.join()
    });
    assert!(panicked.is_err());
    assert_eq!((limiter.open("billing"), limiter.clients()), (0, 0));
    assert!(limiter.admit(&client, &at_most(1)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn rates_go_by_tokios_clock() {
    let limiter = Limiter::default();
    let client: SharedName = "billing".into();
    let come = || limiter.admit(&client, &per_second(1)).is_ok();
    assert!(come() && !come());
    tokio::time::advance(Duration::from_millis(999)).await;
    assert!(!come(), "no real time counts");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(come());
}

#[test]
fn every_rate_is_counted_however_slow_or_fast() {
    let (limiter, _, client) = limiter();
    for events in [1, u32::MAX] {
        for per in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let limits = ClientLimits {
                rate: Some(Rate::new(number(events), per)),
                ..ClientLimits::default()
            };
            assert!(limiter.admit(&client, &limits).is_ok());
        }
    }
}

#[test]
fn racing_clients_never_exceed_their_limit_and_leave_nothing_behind() {
    let limiter = Limiter::default();
    let names: [SharedName; 2] = ["billing".into(), "reports".into()];
    let come_and_go = || {
        for client in names.iter().cycle().take(20_000) {
            let admission = limiter.admit(client, &at_most(2));
            assert!(limiter.open(client) <= 2);
            drop(admission);
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(come_and_go))));
    assert_eq!(limiter.clients(), 0);
}

/// So many, and a second's wait for the next.
fn in_a_second(n: u32) -> ClientLimits {
    ClientLimits {
        wait: Duration::from_secs(1),
        ..at_most(n)
    }
}

#[tokio::test(start_paused = true)]
async fn one_more_connection_waits_for_one_that_ends_as_long_as_its_limits_say() {
    let limiter = Limiter::default();
    let (client, limits): (SharedName, _) = ("billing".into(), in_a_second(1));
    let held = limiter.admit_within(&client, &limits).await.unwrap();
    let begin = Instant::now();
    let leave = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(limiter.waiting("billing"), 1);
        drop(held);
    };
    let (came, ()) = tokio::join!(limiter.admit_within(&client, &limits), leave);
    let _held = came.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_millis(400));

    let limit = limits.connections;
    let denied = limiter.admit_within(&client, &limits).await.unwrap_err();
    assert_eq!(denied, ClientDenied::ClientConnections { limit });
    assert_eq!(begin.elapsed(), Duration::from_millis(1400));
    let denied = limiter.admit_within(&client, &at_most(1)).await;
    assert!(denied.is_err() && begin.elapsed() == Duration::from_millis(1400));
    assert_eq!(limiter.waiting("billing"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_over_its_rate_does_not_wait_and_gives_its_place_on() {
    let limiter = Limiter::default();
    let client: SharedName = "billing".into();
    let limits = ClientLimits {
        rate: per_second(1).rate,
        ..in_a_second(1)
    };
    let at_any_rate = in_a_second(1);
    let held = limiter.admit_within(&client, &limits).await.unwrap();
    let leave = async { drop(held) };
    let (fast, slow, ()) = tokio::join!(
        limiter.admit_within(&client, &limits),
        limiter.admit_within(&client, &at_any_rate),
        leave
    );
    assert!(
        matches!(fast, Err(ClientDenied::ClientRate { .. })),
        "{fast:?}"
    );
    assert!(slow.is_err(), "no more wait than may be open");
    assert!(limiter.admit_within(&client, &at_most(1)).await.is_ok());
}
