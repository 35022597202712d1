//! What a relay's clock rings for, and when.

use super::*;
use crate::ends::StreamState;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> RelayConfig {
    RelayConfig {
        idle: Some(100 * SECOND),
        half_closed: Some(60 * SECOND),
        stall: Some(40 * SECOND),
        lifetime: None,
        keepalive: 10 * SECOND,
        ..RelayConfig::default()
    }
}

fn side(stream: StreamState) -> ends::SideState {
    ends::SideState {
        stream,
        gone: false,
    }
}

/// A clock of an open connection, and a point in time of it.
fn clock() -> (RelayClock, impl Fn(u32) -> Instant + Copy) {
    let start = Instant::now();
    let open = ends::rule(ends::SideState::default(), ends::SideState::default());
    (
        RelayClock::new(&config(), open, start, 0.0),
        move |seconds: u32| start + seconds * SECOND,
    )
}

#[test]
fn an_upstream_has_a_second_to_show_that_it_keeps_a_connection() {
    let (mut clock, at) = clock();
    clock.await_proof(at(0));
    assert_eq!(clock.next(), at(1));
    assert_eq!(clock.due(at(1) - SECOND / 2), None);
    assert!(clock.awaits_proof(), "its time has not come");
    assert_eq!(clock.due(at(1)), Some(WakeReason::Kept));
    assert!(!clock.awaits_proof());
    clock.await_proof(at(1));
    clock.proved();
    assert!(!clock.awaits_proof());
    assert_eq!(clock.due(at(2)), None);
}

#[test]
fn a_side_is_looked_at_a_quarter_of_the_shortest_limit_after_it_was_written_to() {
    let (mut clock, at) = clock();
    let step = clock.step();
    assert_eq!(step, Some(10 * SECOND));
    assert!(RelayClock::wrote(&mut clock.client, step, at(0)));
    assert!(
        !RelayClock::wrote(&mut clock.client, step, at(4)),
        "the alarm is set already"
    );
    assert_eq!(clock.due(at(9)), None);
    assert_eq!(clock.due(at(10)), Some(WakeReason::Settled));
    assert_eq!(clock.due(at(10)), None, "there was more to write meanwhile");
    assert_eq!(clock.next(), at(14));
    assert_eq!(
        clock.due(at(14)),
        Some(WakeReason::ClientTaking),
        "it is time now"
    );
    assert_eq!(clock.next(), at(24));
    clock.client.look(Some(5), false, at(14));
    assert!(clock.client.was_behind());
    clock.client.look(Some(0), true, at(15));
    assert!(!clock.client.was_behind(), "it has taken what was sent");
    assert_eq!(clock.due(at(24)), Some(WakeReason::ClientTaking));
    clock.client.rest();
    assert_eq!(clock.due(at(99)), None);
    assert!(
        !RelayClock::wrote(&mut clock.client, None, at(99)),
        "no limit"
    );
    assert_eq!(clock.next(), at(100), "silence is what is left");
}

#[test]
fn ends_are_looked_at_soon_and_then_less_and_less_often() {
    let (mut clock, at) = clock();
    let start = at(20);
    clock.due(start);
    clock.enter(
        ends::rule(side(StreamState::Ended), ends::SideState::default()),
        start,
    );
    let mut looks = Vec::new();
    let mut now = start;
    while now < start + 20 * SECOND {
        now = clock.next();
        assert_eq!(clock.due(now), Some(WakeReason::Look));
        looks.push(now);
    }
    assert_eq!(looks[0], start + Duration::from_millis(50));
    assert_eq!(looks[1] - looks[0], Duration::from_millis(10));
    let last = looks.len() - 1;
    assert_eq!(looks[last] - looks[last - 1], 2 * SECOND);
}

#[test]
fn what_a_lost_side_left_behind_has_its_own_limits_and_silence_is_none_of_them() {
    let (mut clock, at) = clock();
    clock.due(at(10));
    let rule = ends::rule(side(StreamState::Broken), ends::SideState::default());
    clock.enter(rule, at(10));
    assert_eq!(clock.patience(), Some(60 * SECOND));
    assert_eq!(clock.stall(), Some(40 * SECOND));
    assert!(!clock.is_overdue(at(50) - SECOND / 2));
    assert!(clock.is_overdue(at(50)));
    assert!(!clock.is_quiet(at(15) - SECOND / 2));
    assert!(clock.is_quiet(at(15)));
    while let Some(due) = clock.due(at(1000)) {
        assert_eq!(due, WakeReason::Look);
    }
}
