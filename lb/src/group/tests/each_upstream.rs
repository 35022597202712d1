//! What becomes of single upstreams: newcomers, those that rest, those that failed, those that are
//! free.

use super::*;
use crate::lease::Lease;

fn slow(slow_start: Duration, ports: impl IntoIterator<Item = u16>) -> GroupConfig {
    GroupConfig {
        slow_start,
        ..config(upstreams(ports), ProbeKind::Off)
    }
}

/// The ports of the next leases, which are kept.
fn arrive(group: &Arc<UpstreamGroup>, held: &mut Vec<Lease>, count: usize) -> Vec<u16> {
    let leases = (0..count).map(|_| group.lease(&[]).unwrap());
    let before = held.len();
    held.extend(leases);
    let new = held[before..].iter();
    new.map(|lease| lease.address().port()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_goes_one_step_at_a_time() {
    let second = Duration::from_secs(1);
    let group = group(slow(16 * second, [1]));
    let mut held = Vec::new();
    arrive(&group, &mut held, 32);
    group.alter(slow(16 * second, [1, 2]));
    assert_eq!(arrive(&group, &mut held, 2), [2, 1]);
    for _ in 0..3 {
        // A step is worth two connections of the 32.
        tokio::time::advance(second).await;
        assert_eq!(arrive(&group, &mut held, 2), [2, 2]);
    }
    assert_eq!(arrive(&group, &mut held, 1), [1]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_serves_is_no_newcomer_again() {
    let group = group(slow(Duration::from_secs(16), [1, 2]));
    let mut held: Vec<_> = (0..10)
        .map(|_| group.lease(&[address(2)]).unwrap())
        .collect();
    group.put_upstream(UpstreamConfig::new(address(2)));
    assert_eq!(arrive(&group, &mut held, 10), [2; 10]);
    let at_once = super::group(slow(Duration::ZERO, [1]));
    let mut held = Vec::new();
    arrive(&at_once, &mut held, 3);
    at_once.alter(slow(Duration::ZERO, [1, 2]));
    assert_eq!(arrive(&at_once, &mut held, 3), [2; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_connection_counts_for_ten_seconds_and_so_many_at_most() {
    let mut config = config(upstreams([1, 2]), ProbeKind::Off);
    config.health.fall = NonZeroU32::MAX;
    let group = group(config);
    let mut held = Vec::new();
    group.fell_short(address(1), FailureCause::Closed);
    group.fell_short(address(1), FailureCause::Closed);
    assert_eq!(arrive(&group, &mut held, 2), [2, 2]);
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert_eq!(
        arrive(&group, &mut held, 1),
        [1],
        "of equals it waited longer"
    );
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(arrive(&group, &mut held, 1), [1], "they are forgotten");
    held.clear();
    for _ in 0..2000 {
        group.fell_short(address(1), FailureCause::Closed);
    }
    let instead = arrive(&group, &mut held, 2000);
    let first = instead.iter().position(|&port| port == 1);
    assert_eq!(first, Some(1024));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_rests_after_its_own_failures_and_only_without_probes() {
    let with = |check| config(upstreams([1]), check);
    let group = group(with(ProbeKind::Tcp));
    let interval = group.config().health.interval;
    let moment = Duration::from_millis(1);
    let nearly = interval.saturating_sub(moment);
    let fail = || (0..FALL).for_each(|_| group.dialed(address(1), Err(FailureCause::Refused)));
    group.probed(address(1), Ok(()));
    fail();
    assert_eq!(health(&group, 1), UpstreamHealth::Down);
    tokio::time::advance(nearly).await;
    group.alter(with(ProbeKind::Off));
    fail();
    tokio::time::advance(moment).await;
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "its rest has only begun"
    );
    group.alter(with(ProbeKind::Tcp));
    tokio::time::advance(interval).await;
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "now a probe has to say so"
    );
}

#[test]
fn what_clients_may_have_caused_counts_while_an_upstream_is_the_last_one() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    group.fell_short(address(1), FailureCause::Closed);
    assert_eq!(health(&group, 1), UpstreamHealth::Up);
    group.probed(address(2), Ok(()));
    group.fell_short(address(1), FailureCause::Closed);
    assert_eq!(health(&group, 1), UpstreamHealth::Down);
}

#[test]
fn a_backup_makes_a_primary_one_of_two() {
    let mut upstreams = upstreams([1, 2]);
    upstreams[1].backup = true;
    let group = group(config(upstreams, ProbeKind::Off));
    (0..FALL).for_each(|_| group.fell_short(address(1), FailureCause::Closed));
    assert_eq!(health(&group, 1), UpstreamHealth::Down);
    assert_eq!(group.lease(&[]).unwrap().address(), address(2));
}

#[test]
fn an_upstream_is_free_once_nothing_comes_to_it_and_its_last_connection_has_ended() {
    let group = group(config(upstreams([1, 2, 3]), ProbeKind::Off));
    let other = |port| -> Vec<SocketAddr> { (1..=3).filter(|&n| n != port).map(address).collect() };
    let state = |port, state| UpstreamConfig {
        state,
        ..UpstreamConfig::new(address(port))
    };
    let _first = group.lease(&other(1)).unwrap();
    let freed = |upstream: UpstreamConfig| {
        let freed = group.state.lock().put(upstream);
        freed.map(|vacated| (vacated.upstream.port(), vacated.state))
    };
    assert_eq!(freed(state(1, UpstreamState::Drain)), None, "it has one");
    assert_eq!(freed(state(2, UpstreamState::Drain)), Some((2, "drain")));
    assert_eq!(freed(state(2, UpstreamState::Ready)), None);
    let _two = [(); 2].map(|()| group.lease(&other(2)).unwrap());
    let mut book = group.state.lock();
    assert_eq!(book.remove(address(2)), None, "it has two");
    book.balancer.adopt(address(2));
    assert_eq!(book.give_back(address(2)), None, "it has two again");
    let vacated = book.remove(address(3)).unwrap();
    assert_eq!((vacated.upstream, vacated.state), (address(3), "removed"));
    assert_eq!(book.remove(address(3)), None, "it is not there");
    book.put(state(4, UpstreamState::Ready));
    let free: Vec<_> = book.retire().iter().map(|one| one.upstream).collect();
    assert_eq!(free, [address(4)], "the others have connections");
}

#[test]
fn a_group_tells_its_name_and_why_an_upstream_failed() {
    let group = group(config(upstreams([1]), ProbeKind::Tcp));
    assert_eq!(&**group.name(), "ledger");
    assert!(format!("{group:?}").contains("ledger"));
    group.probed(address(1), Err(FailureCause::Refused));
    let book = group.state.lock();
    assert_eq!(book.cause(address(1)), Some(&FailureCause::Refused));
    assert_eq!(book.cause(address(2)), None);
}
