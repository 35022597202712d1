//! What happens behind the face.

use std::num::NonZeroU32;

use super::*;
use crate::group_config::{GroupConfig, HealthConfig, UpstreamConfig, UpstreamState};
use crate::limit::Rate;
use crate::probe_kind::ProbeKind;

fn probed(name: &str) -> GroupConfig {
    let nobody = ([127, 0, 0, 1], 1).into();
    GroupConfig::new(name, vec![UpstreamConfig::new(nobody)])
}

#[tokio::test]
async fn a_removed_group_is_probed_no_more_however_long_its_connections_last() {
    let balancer = LoadBalancer::default();
    balancer.start().unwrap();
    balancer
        .apply([BalancerChange::PutGroup(probed("ledger"))])
        .unwrap();
    // As a connection does.
    let kept = balancer.group("ledger").unwrap();
    assert_eq!(kept.probes().ids().len(), 1);
    balancer
        .apply([BalancerChange::RemoveGroup("ledger".into())])
        .unwrap();
    assert!(kept.probes().ids().is_empty());
    balancer
        .apply([BalancerChange::PutGroup(probed("ledger"))])
        .unwrap();
    assert_eq!(
        kept.probes().ids().len(),
        1,
        "it came back, and is the same"
    );
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_idle_are_forgotten_once_in_a_while() {
    let balancer = LoadBalancer::default();
    balancer.start().unwrap();
    let limits = ClientLimits {
        rate: Some(Rate::per_second(NonZeroU32::MIN)),
        ..ClientLimits::default()
    };
    drop(balancer.admit(&"billing".into(), &limits).unwrap());
    assert_eq!(balancer.limiter().remembered(), 1);
    sleep(HOUSEKEEPING + Duration::from_millis(1)).await;
    assert_eq!(balancer.limiter().remembered(), 0);
}

#[test]
fn a_load_balancer_says_why_it_cannot_start() {
    let refused = LoadBalancer::default().start().unwrap_err();
    assert!(
        matches!(refused, ProbeStartError::NoRuntime(_)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_load_balancer_that_was_stopped_does_not_start() {
    let balancer = LoadBalancer::default();
    assert_eq!(balancer.stop(Duration::ZERO).await, Drained::Clean);
    let refused = balancer.start().unwrap_err();
    assert!(matches!(refused, ProbeStartError::Stopped), "{refused:?}");
}

#[test]
fn changes_of_which_one_is_wrong_change_nothing() {
    let balancer = LoadBalancer::default();
    let mut wrong = probed("wrong");
    wrong.health = HealthConfig {
        interval: Duration::MAX,
        ..HealthConfig::default()
    };
    let refused = balancer
        .apply([
            BalancerChange::PutGroup(probed("right")),
            BalancerChange::PutGroup(wrong.clone()),
        ])
        .unwrap_err();
    assert_eq!(&*refused.group, "wrong");
    assert!(balancer.groups().is_empty());
    let config = LoadBalancerConfig {
        groups: vec![wrong],
        ..LoadBalancerConfig::default()
    };
    assert_eq!(LoadBalancer::new(config).unwrap_err(), refused);
}

#[test]
fn whoever_finds_upstreams_loses_none_that_others_find() {
    let balancer = LoadBalancer::default();
    let group: SharedName = "ledger".into();
    balancer
        .apply([BalancerChange::PutGroup(GroupConfig::new(
            "ledger",
            Vec::new(),
        ))])
        .unwrap();
    let found = |finder: u8, port: u16| UpstreamConfig::new(([127, 0, 0, finder], port).into());
    std::thread::scope(|scope| {
        for finder in 1..=2 {
            let (balancer, group) = (&balancer, SharedName::clone(&group));
            scope.spawn(move || {
                for port in 1..=500 {
                    let (group, upstream) = (SharedName::clone(&group), found(finder, port));
                    let put = BalancerChange::PutUpstream { group, upstream };
                    balancer.apply([put]).unwrap();
                }
            });
        }
    });
    let live = balancer.group("ledger").unwrap();
    assert_eq!(
        (live.upstreams().len(), live.config().upstreams.len()),
        (1000, 1000)
    );
    let upstream = found(1, 1).address;
    let remove = |group: &SharedName| BalancerChange::RemoveUpstream {
        group: SharedName::clone(group),
        upstream,
    };
    balancer.apply([remove(&group)]).unwrap();
    assert_eq!(live.upstreams().len(), 999);
    let refused = balancer.apply([remove(&"nobody".into())]).unwrap_err();
    assert_eq!(refused.to_string(), "group `nobody`: no such group");
    let gone = balancer.apply([
        BalancerChange::RemoveGroup(SharedName::clone(&group)),
        remove(&group),
    ]);
    assert!(
        gone.is_err() && balancer.group("ledger").is_some(),
        "none is applied"
    );
}

#[tokio::test]
async fn an_upstream_that_is_added_is_probed_and_one_that_is_removed_is_not() {
    let balancer = LoadBalancer::default();
    balancer.start().unwrap();
    balancer
        .apply([BalancerChange::PutGroup(probed("ledger"))])
        .unwrap();
    let live = balancer.group("ledger").unwrap();
    let upstream = UpstreamConfig::new(([127, 0, 0, 1], 2).into());
    let group: SharedName = "ledger".into();
    let put = |upstream| BalancerChange::PutUpstream {
        group: SharedName::clone(&group),
        upstream,
    };
    balancer.apply([put(upstream)]).unwrap();
    let before = live.probes().ids();
    assert_eq!(before.len(), 2);
    let state = UpstreamState::Maint;
    balancer
        .apply([put(UpstreamConfig { state, ..upstream })])
        .unwrap();
    assert_eq!(live.probes().ids(), [before[0]], "the other one goes on");
}

#[tokio::test(start_paused = true)]
async fn groups_without_a_first_verdict_in_time_are_named() {
    let balancer = LoadBalancer::default();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let group = |name: &str, check| GroupConfig {
        health: HealthConfig {
            check,
            timeout: Duration::from_hours(1),
            ..HealthConfig::default()
        },
        ..GroupConfig::new(
            name,
            vec![UpstreamConfig::new(silent.local_addr().unwrap())],
        )
    };
    let answer = || ProbeKind::SendExpect {
        send: Vec::new(),
        expect: b"+PONG".to_vec(),
    };
    balancer
        .apply([
            BalancerChange::PutGroup(group("ledger", answer())),
            BalancerChange::PutGroup(group("plain", ProbeKind::Off)),
            BalancerChange::PutGroup(group("audit", answer())),
        ])
        .unwrap();
    balancer.start().unwrap();
    let begun = tokio::time::Instant::now();
    let undecided = balancer.first_verdicts().await;
    assert_eq!(
        undecided,
        [SharedName::from("audit"), SharedName::from("ledger")]
    );
    assert!(begun.elapsed() < Duration::from_secs(6), "all wait at once");
}

#[tokio::test]
async fn a_load_balancer_that_is_gone_leaves_no_task_behind() {
    let balancer = LoadBalancer::default();
    balancer.start().unwrap();
    let background = balancer.background.clone();
    assert_eq!(background.len(), 1);
    drop(balancer);
    background.close();
    let ended = tokio::time::timeout(Duration::from_secs(20), background.wait());
    ended.await.unwrap();
}
