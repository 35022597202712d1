//! What a group does with its upstreams: health, reloads, rest, and threads that race.

mod each_upstream;
mod histories;

use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;

use super::*;
use crate::group_config::{HealthConfig, UpstreamConfig, UpstreamState};
use crate::limit::Limit;
use crate::probe_kind::ProbeKind;

const RISE: u32 = 2;
const FALL: u32 = 2;

fn address(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn config(upstreams: Vec<UpstreamConfig>, check: ProbeKind) -> GroupConfig {
    let health = HealthConfig {
        check,
        rise: number(RISE),
        fall: number(FALL),
        ..HealthConfig::default()
    };
    GroupConfig {
        health,
        // What is looked at here are loads as they are.
        slow_start: Duration::ZERO,
        ..GroupConfig::new("ledger", upstreams)
    }
}

fn upstreams(ports: impl IntoIterator<Item = u16>) -> Vec<UpstreamConfig> {
    ports
        .into_iter()
        .map(|port| UpstreamConfig::new(address(port)))
        .collect()
}

fn group(config: GroupConfig) -> Arc<UpstreamGroup> {
    Arc::new(UpstreamGroup::new(config))
}

fn health(group: &UpstreamGroup, port: u16) -> UpstreamHealth {
    group.health(address(port)).unwrap()
}

#[test]
fn an_upstream_takes_no_connection_before_it_passed_a_probe() {
    let group = group(config(upstreams([1]), ProbeKind::Tcp));
    assert_eq!(group.lease(&[]).unwrap_err(), NoLease::NoneHealthy);
    group.probed(address(1), Ok(()));
    assert_eq!(group.lease(&[]).unwrap().address(), address(1));
}

#[test]
fn what_another_process_knows_serves_before_the_first_probe() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.assume(address(1), UpstreamHealth::Up);
    group.assume(address(7), UpstreamHealth::Up);
    assert_eq!(group.lease(&[]).unwrap().address(), address(1));
    assert_eq!(health(&group, 2), UpstreamHealth::Unknown);
}

#[test]
fn a_reload_keeps_health_and_counts_of_upstreams_that_stay() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    let lease = group.lease(&[]).unwrap();
    group.alter(config(upstreams([1, 3]), ProbeKind::Tcp));
    assert_eq!(health(&group, 1), UpstreamHealth::Up);
    assert_eq!(health(&group, 3), UpstreamHealth::Unknown);
    assert_eq!(group.health(address(2)), None);
    assert_eq!(group.upstreams()[0].open, 1);
    drop(lease);
    assert_eq!(group.open(), 0);
}

#[test]
fn an_upstream_that_drains_keeps_its_connections_and_gets_no_new_ones() {
    let group = group(config(upstreams([1]), ProbeKind::Off));
    let lease = group.lease(&[]).unwrap();
    let draining = UpstreamConfig {
        state: UpstreamState::Drain,
        ..UpstreamConfig::new(address(1))
    };
    group.alter(config(vec![draining], ProbeKind::Off));
    assert_eq!(group.lease(&[]).unwrap_err(), NoLease::NoneHealthy);
    assert_eq!((group.open(), lease.address()), (1, address(1)));
    assert_eq!(
        health(&group, 1),
        UpstreamHealth::Up,
        "draining says nothing about health"
    );
}

#[test]
fn an_upstream_must_pass_again_after_maintenance() {
    let group = group(config(upstreams([1]), ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    let maint = UpstreamConfig {
        state: UpstreamState::Maint,
        ..UpstreamConfig::new(address(1))
    };
    group.alter(config(vec![maint], ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    assert_eq!(
        health(&group, 1),
        UpstreamHealth::Unknown,
        "a late probe does not count"
    );
    group.alter(config(upstreams([1]), ProbeKind::Tcp));
    assert_eq!(group.lease(&[]).unwrap_err(), NoLease::NoneHealthy);
    group.probed(address(1), Ok(()));
    assert!(group.lease(&[]).is_ok());
}

#[test]
fn probes_that_are_switched_off_leave_every_upstream_up() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.probed(address(1), Err(FailureCause::Refused));
    group.probed(address(1), Err(FailureCause::Refused));
    assert_eq!(
        (health(&group, 1), health(&group, 2)),
        (UpstreamHealth::Down, UpstreamHealth::Unknown)
    );
    group.alter(config(upstreams([1, 2]), ProbeKind::Off));
    assert_eq!(
        (health(&group, 1), health(&group, 2)),
        (UpstreamHealth::Up, UpstreamHealth::Up)
    );
    group.alter(config(upstreams([1, 2]), ProbeKind::Tcp));
    assert_eq!(
        health(&group, 1),
        UpstreamHealth::Up,
        "and up they stay until a probe says otherwise"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unprobed_upstream_rests_after_failed_dials_and_is_tried_again() {
    let group = group(config(upstreams([1]), ProbeKind::Off));
    let interval = group.config().health.interval;
    let fail = || group.dialed(address(1), Err(FailureCause::Refused));
    fail();
    assert_eq!(health(&group, 1), UpstreamHealth::Up);
    fail();
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "two failures in a row"
    );
    group.alter(GroupConfig {
        max_connections: Limit::AtMost(number(5)),
        ..config(upstreams([1]), ProbeKind::Off)
    });
    tokio::time::advance(interval.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "a reload ends no rest"
    );
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(group.lease(&[]).is_ok(), "it is tried again");
    fail();
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "one failure is enough now"
    );
    tokio::time::advance(interval).await;
    assert_eq!(group.upstreams()[0].health, UpstreamHealth::Up);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_its_share_at_first_and_what_it_lacks_little_by_little() {
    let slow_start = Duration::from_secs(16);
    let config = |ports| GroupConfig {
        slow_start,
        ..config(upstreams(ports), ProbeKind::Off)
    };
    let group = group(config(1..=4));
    let mut held: Vec<_> = (0..400).map(|_| group.lease(&[]).unwrap()).collect();
    group.alter(config(1..=5));
    let mut arrive = |number: usize| {
        let before = held.len();
        held.extend((0..number).map(|_| group.lease(&[]).unwrap()));
        let newcomers = held[before..].iter();
        newcomers
            .filter(|lease| lease.address() == address(5))
            .count()
    };
    assert_eq!(arrive(50), 10, "one of five, though it has none of 400");
    tokio::time::advance(slow_start / 2).await;
    let half = arrive(200);
    assert!((40..200).contains(&half), "{half}");
    tokio::time::advance(slow_start).await;
    arrive(1000);
    let open: Vec<_> = group
        .upstreams()
        .iter()
        .map(|upstream| upstream.open)
        .collect();
    assert_eq!(open, [330; 5], "in the end all are equal");
}

#[test]
fn racing_threads_never_double_up_and_leave_nothing_behind() {
    let group = group(GroupConfig {
        max_connections: Limit::AtMost(number(4)),
        ..config(upstreams(1..=4), ProbeKind::Off)
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let _lease = group.lease(&[]).expect("four for four");
                    // Never more threads than upstreams, so nobody ever has to share.
                    assert!(group.upstreams().iter().all(|upstream| upstream.open <= 1));
                }
            });
        }
    });
    assert_eq!(group.open(), 0);
}

#[test]
fn upstreams_that_are_changed_one_by_one_and_all_at_once_end_up_the_same() {
    let one = group(config(upstreams(1..=3), ProbeKind::Off));
    let lease = one.lease(&[address(2), address(3)]).unwrap();
    let drained = UpstreamConfig {
        state: UpstreamState::Drain,
        ..UpstreamConfig::new(address(2))
    };
    one.put_upstream(UpstreamConfig::new(address(4)));
    one.put_upstream(drained);
    one.remove_upstream(address(1));
    one.remove_upstream(address(9));
    let mut same = upstreams(2..=4);
    same[0] = drained;
    let other = group(config(upstreams(1..=3), ProbeKind::Off));
    other.alter(config(same, ProbeKind::Off));
    assert_eq!(
        (one.upstreams(), one.config()),
        (other.upstreams(), other.config())
    );
    assert_eq!(one.open(), 1, "the removed one is still counted");
    drop(lease);
    assert_eq!(one.open(), 0);
}

#[test]
fn of_two_upstreams_with_one_address_the_last_counts() {
    let twice = |weights: [u32; 2]| {
        let upstreams = weights.map(|weight| UpstreamConfig {
            weight: number(weight),
            ..UpstreamConfig::new(address(1))
        });
        config(upstreams.into(), ProbeKind::Off)
    };
    let group = group(twice([1, 2]));
    let weight = |group: &UpstreamGroup| group.upstreams()[0].weight.get();
    assert_eq!(weight(&group), 2);
    group.alter(twice([5, 2]));
    assert_eq!(weight(&group), 2, "that one has not changed");
    group.alter(twice([2, 3]));
    assert_eq!(weight(&group), 3);
    let heavy = twice([1, 7]).upstreams[1];
    group.put_upstream(heavy);
    assert_eq!(weight(&group), 7);
    assert_eq!(group.config().upstreams[1], heavy);
}

#[test]
fn reloads_that_race_connections_lose_no_count() {
    let group = group(config(upstreams(1..=4), ProbeKind::Off));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..5_000).for_each(|_| drop(group.lease(&[]))));
        }
        for round in 0..2_000 {
            group.alter(config(upstreams(1..=1 + round % 4), ProbeKind::Off));
        }
    });
    assert_eq!(group.open(), 0);
    group.alter(config(upstreams(1..=4), ProbeKind::Off));
    assert!(group.upstreams().iter().all(|upstream| upstream.open == 0));
}
