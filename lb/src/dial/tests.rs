//! Which upstream is dialed, how long, and what a failure says about it.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::group_config::{DialConfig, GroupConfig, HealthConfig, UpstreamConfig};
use crate::health::UpstreamHealth;
use crate::probe_kind::ProbeKind;

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that refuses, and keeps refusing while the socket is held.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// An address that neither accepts nor refuses, since its backlog is full.
async fn silent() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let (socket, address) = refusing();
    socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (socket, queued, address)
}

fn group(upstreams: &[SocketAddr], dial: DialConfig) -> Arc<UpstreamGroup> {
    let upstreams = upstreams.iter().copied().map(UpstreamConfig::new).collect();
    let health = HealthConfig {
        check: ProbeKind::Off,
        ..HealthConfig::default()
    };
    Arc::new(UpstreamGroup::new(GroupConfig {
        health,
        dial,
        ..GroupConfig::new("ledger", upstreams)
    }))
}

fn open(group: &UpstreamGroup) -> Vec<u32> {
    group
        .upstreams()
        .iter()
        .map(|upstream| upstream.open)
        .collect()
}

#[tokio::test]
async fn a_refused_dial_goes_on_to_the_next_upstream() {
    let ((_held, refuses), (_listener, accepts)) = (refusing(), listening().await);
    let group = group(&[refuses, accepts], DialConfig::default());
    let _busy = group.lease(&[refuses]).unwrap();
    let mut report = DialReport::default();
    let dialed = dial(&group, &mut report).await.unwrap();
    assert_eq!(dialed.stream.peer_addr().unwrap(), accepts);
    assert_eq!(dialed.lease.address(), accepts);
    assert!(dialed.stream.nodelay().unwrap());
    let last = Some(io::ErrorKind::ConnectionRefused);
    assert_eq!(
        report,
        DialReport {
            tries: 2,
            upstream: Some(accepts),
            last
        }
    );
    assert_eq!(open(&group), [0, 2], "the failed dial was returned");
}

#[tokio::test]
async fn no_more_upstreams_are_dialed_than_tries() {
    let held: Vec<_> = (0..4).map(|_| refusing()).collect();
    let addresses: Vec<_> = held.iter().map(|(_, address)| *address).collect();
    let group = group(&addresses, DialConfig::default());
    let failed = dial(&group, &mut DialReport::default()).await.unwrap_err();
    assert!(
        matches!(failed, DialError::AllFailed { tries: 3, .. }),
        "{failed:?}"
    );
    assert_eq!(group.open(), 0);
}

#[tokio::test]
async fn every_upstream_is_dialed_once_at_most() {
    let (_held, refuses) = refusing();
    let group = group(&[refuses], DialConfig::default());
    let failed = dial(&group, &mut DialReport::default()).await.unwrap_err();
    assert!(
        matches!(failed, DialError::AllFailed { tries: 1, .. }),
        "{failed:?}"
    );
}

#[tokio::test]
async fn failed_dials_take_an_upstream_out_and_then_nobody_waits() {
    let (_held, refuses) = refusing();
    let group = group(&[refuses], DialConfig::default());
    for _ in 0..3 {
        assert!(dial(&group, &mut DialReport::default()).await.is_err());
    }
    assert_eq!(group.health(refuses), Some(UpstreamHealth::Down));
    let mut report = DialReport::default();
    let refusal = dial(&group, &mut report).await.unwrap_err();
    assert!(matches!(refusal, DialError::NoneHealthy), "{refusal:?}");
    assert_eq!(report, DialReport::default(), "nothing was dialed");
}

#[tokio::test]
async fn a_full_group_refuses_at_once() {
    let (_listener, accepts) = listening().await;
    let group = group(&[accepts], DialConfig::default());
    let limit = Limit::AtMost(std::num::NonZeroU32::MIN);
    group.alter(GroupConfig {
        max_connections: limit,
        ..GroupConfig::clone(&group.config())
    });
    let _first = dial(&group, &mut DialReport::default()).await.unwrap();
    let refusal = dial(&group, &mut DialReport::default()).await.unwrap_err();
    assert!(
        matches!(refusal, DialError::GroupFull { .. }),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_silent_upstream_costs_one_timeout_and_all_of_them_the_budget() {
    let (_one, _queued, first) = silent().await;
    let (_two, _queued_too, second) = silent().await;
    let connect = Duration::from_millis(60);
    let budget = Duration::from_millis(90);
    let dials = DialConfig {
        connect,
        budget,
        ..DialConfig::default()
    };
    let group = group(&[first, second], dials);
    tokio::time::pause();
    let begun = Instant::now();
    let mut report = DialReport::default();
    let failed = timeout(Duration::from_secs(10), dial(&group, &mut report))
        .await
        .unwrap();
    assert!(
        matches!(failed, Err(DialError::AllFailed { tries: 2, .. })),
        "{failed:?}"
    );
    assert_eq!(report.last, Some(io::ErrorKind::TimedOut));
    assert!((89..=92).contains(&begun.elapsed().as_millis()));
    assert_eq!(open(&group), [0, 0]);
}

#[tokio::test]
async fn a_dial_counts_while_it_is_under_way_and_not_after_it_was_cancelled() {
    let (_socket, _queued, silent) = silent().await;
    let group = group(&[silent], DialConfig::default());
    let mut report = DialReport::default();
    let mut dialing = Box::pin(dial(&group, &mut report));
    assert!(
        timeout(Duration::from_millis(1), &mut dialing)
            .await
            .is_err()
    );
    assert_eq!(open(&group), [1]);
    drop(dialing);
    assert_eq!(open(&group), [0]);
}

/// A group of one upstream that goes down with its first failed dial.
fn brittle(upstream: SocketAddr, dial: DialConfig) -> Arc<UpstreamGroup> {
    let group = group(&[upstream], dial);
    let config = GroupConfig::clone(&group.config());
    group.alter(GroupConfig {
        health: HealthConfig {
            fall: std::num::NonZeroU32::MIN,
            ..config.health
        },
        ..config
    });
    group
}

#[tokio::test]
async fn a_dial_that_fails_for_want_of_something_here_takes_no_upstream_down() {
    // EMFILE, ENFILE, ENOMEM, ENOBUFS and EADDRNOTAVAIL are ours; ECONNREFUSED is the upstream's.
    for (number, health) in [
        (24, UpstreamHealth::Up),
        (23, UpstreamHealth::Up),
        (12, UpstreamHealth::Up),
        (105, UpstreamHealth::Up),
        (99, UpstreamHealth::Up),
        (111, UpstreamHealth::Down),
    ] {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 9));
        let group = brittle(upstream, DialConfig::default());
        let fails = |_| async move { Err(io::Error::from_raw_os_error(number)) };
        let mut report = DialReport::default();
        assert!(dial_by(&group, &mut report, fails).await.is_err());
        assert_eq!(group.health(upstream), Some(health), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_dial_that_was_given_its_time_is_held_against_the_upstream() {
    let second = Duration::from_secs(1);
    for (budget, health) in [
        (second / 2, UpstreamHealth::Up),
        (second, UpstreamHealth::Down),
    ] {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 9));
        let dials = DialConfig {
            connect: second,
            budget,
            ..DialConfig::default()
        };
        let group = brittle(upstream, dials);
        let mut report = DialReport::default();
        let never = |_| pending::<io::Result<TcpStream>>();
        assert!(dial_by(&group, &mut report, never).await.is_err());
        assert_eq!(report.last, Some(io::ErrorKind::TimedOut));
        assert_eq!(group.health(upstream), Some(health), "{budget:?}");
    }
}
