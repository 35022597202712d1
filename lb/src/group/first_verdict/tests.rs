//! Who waits for the first verdict, and until when; who is told that an upstream is free.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::state::FIRST_VERDICT;
use super::*;
use crate::cause::FailureCause;
use crate::group::UpstreamGroup;
use crate::group_config::{GroupConfig, UpstreamConfig, UpstreamState};

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn config(ports: &[u16]) -> GroupConfig {
    let upstreams = ports.iter().copied().map(address).map(UpstreamConfig::new);
    GroupConfig::new("ledger", upstreams.collect())
}

fn group(ports: &[u16]) -> Arc<UpstreamGroup> {
    Arc::new(UpstreamGroup::new(config(ports)))
}

/// How long it takes until the group has its verdict, and whether it has.
async fn waits(group: &UpstreamGroup) -> (bool, Duration) {
    let begun = Instant::now();
    (group.first_verdict().await, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_group_that_nobody_probes() {
    let group = group(&[1]);
    assert_eq!(waits(&group).await, (true, Duration::ZERO));
    group.put_upstream(UpstreamConfig::new(address(2)));
    assert_eq!(waits(&group).await, (true, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_pass_of_one_upstream_is_a_verdict_and_ends_the_wait_at_once() {
    let group = group(&[1, 2]);
    group.begin_probing();
    let second = Duration::from_secs(1);
    let passes = async {
        tokio::time::sleep(second).await;
        group.probed(address(1), Ok(()));
    };
    let (waited, ()) = tokio::join!(waits(&group), passes);
    assert_eq!(waited, (true, second));
    assert_eq!(waits(&group).await, (true, Duration::ZERO), "and it stays");
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_bounded_from_its_begin_and_not_by_who_waits() {
    let group = group(&[1]);
    group.begin_probing();
    tokio::time::advance(FIRST_VERDICT / 2).await;
    let (verdict, waited) = waits(&group).await;
    assert!(
        !verdict && waited <= FIRST_VERDICT / 2 + Duration::from_millis(1),
        "{waited:?}"
    );
    assert!(
        timeout(Duration::from_millis(1), group.first_verdict())
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn all_known_to_be_down_is_a_verdict_and_new_upstreams_are_waited_for_anew() {
    let group = group(&[1]);
    group.begin_probing();
    for _ in 0..group.config().health.fall.get() {
        group.probed(address(1), Err(FailureCause::Refused));
    }
    assert_eq!(waits(&group).await, (true, Duration::ZERO));
    group.put_upstream(UpstreamConfig::new(address(2)));
    let short = timeout(Duration::from_millis(1), group.first_verdict());
    assert!(short.await.is_err(), "nothing is known about the new one");
    group.remove_upstream(address(2));
    assert_eq!(waits(&group).await, (true, Duration::ZERO));
}

#[test]
fn an_upstream_is_free_when_it_gets_nothing_and_has_lost_its_last_connection() {
    let group = group(&[1]);
    let freed = |group: &UpstreamGroup| {
        let mut book = group.state.lock();
        book.balancer.adopt(address(1));
        book.give_back(address(1)).map(|vacated| vacated.state)
    };
    assert_eq!(freed(&group), None, "it gets new ones");
    for (state, word) in [
        (UpstreamState::Drain, "drain"),
        (UpstreamState::Maint, "maint"),
    ] {
        let upstream = UpstreamConfig {
            state,
            ..UpstreamConfig::new(address(1))
        };
        group.put_upstream(upstream);
        assert_eq!(freed(&group), Some(word));
        assert_eq!(group.state.lock().put(upstream), None, "it is no news");
    }
    group.alter(config(&[1]));
    group.retire();
    assert_eq!(freed(&group), Some("removed"), "its group was");
    group.alter(config(&[1]));
    assert_eq!(freed(&group), None, "the group came back");
    group.remove_upstream(address(1));
    assert_eq!(freed(&group), Some("removed"));
}
