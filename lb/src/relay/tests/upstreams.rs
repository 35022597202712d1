//! What relays say about the upstreams that they go to.

use tokio::net::TcpListener;

use super::*;

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// A group whose upstreams go down after three failures and stay so.
fn group(listeners: &[&TcpListener], on_down: OnDown) -> Arc<UpstreamGroup> {
    let upstreams = listeners
        .iter()
        .map(|listener| UpstreamConfig::new(listener.local_addr().unwrap()))
        .collect();
    Arc::new(UpstreamGroup::new(GroupConfig {
        health: HealthConfig {
            check: ProbeKind::Off,
            interval: Duration::from_hours(1),
            fall: number(3),
            on_down,
            ..HealthConfig::default()
        },
        ..GroupConfig::new("ledger", upstreams)
    }))
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// What an upstream does with a connection.
#[derive(Clone, Copy)]
enum Does {
    EndAtOnce,
    ResetAtOnce,
    SpeakAndReset,
    SpeakAndEnd,
}

/// One connection to an upstream that is the only one left to try. The client waits.
async fn visit(
    group: &Arc<UpstreamGroup>,
    listener: &TcpListener,
    does: Does,
) -> Result<RelayEnd, RelayError> {
    let others: Vec<_> = group
        .upstreams()
        .iter()
        .map(|upstream| upstream.address)
        .filter(|address| *address != listener.local_addr().unwrap())
        .collect();
    let lease = group.lease(&others).unwrap();
    let mut near = tcp::connect(lease.address()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let (mut client, mut downstream) = pair().await;
    let (config, traffic) = (RelayConfig::default(), &Traffic::new());
    let leased = (&mut near, &lease, Instant::now());
    let relay = async move {
        let relayed = relay_leased(&mut downstream, leased, &config, traffic);
        relayed.await
    };
    let peers = async {
        if matches!(does, Does::SpeakAndReset | Does::SpeakAndEnd) {
            upstream.write_all(b"hello").await.unwrap();
            read(&mut client, 5).await;
        }
        if matches!(does, Does::ResetAtOnce | Does::SpeakAndReset) {
            upstream.set_zero_linger().unwrap();
        }
        drop(upstream);
        // It may be a reset.
        drop(read_to_end(&mut client).await);
        client.shutdown().await.ok();
    };
    timeout(BOUND, async { tokio::join!(relay, peers).0 })
        .await
        .unwrap()
}

fn health(group: &UpstreamGroup, listener: &TcpListener) -> UpstreamHealth {
    group.health(listener.local_addr().unwrap()).unwrap()
}

#[tokio::test]
async fn an_upstream_that_ends_connections_without_a_byte_goes_down() {
    for does in [Does::EndAtOnce, Does::ResetAtOnce] {
        let (bad, good) = (listener().await, listener().await);
        let group = group(&[&bad, &good], OnDown::Keep);
        for _ in 0..2 {
            drop(visit(&group, &bad, does).await);
        }
        assert_eq!(health(&group, &bad), UpstreamHealth::Up);
        drop(visit(&group, &bad, does).await);
        assert_eq!(health(&group, &bad), UpstreamHealth::Down);
    }
}

#[tokio::test]
async fn a_byte_from_the_upstream_ends_the_row_of_its_failures() {
    let (bad, good) = (listener().await, listener().await);
    let group = group(&[&bad, &good], OnDown::Keep);
    for does in [
        Does::EndAtOnce,
        Does::EndAtOnce,
        Does::SpeakAndEnd,
        Does::EndAtOnce,
        Does::EndAtOnce,
    ] {
        drop(visit(&group, &bad, does).await);
    }
    assert_eq!(health(&group, &bad), UpstreamHealth::Up);
}

#[tokio::test]
async fn an_upstream_that_breaks_connection_after_connection_goes_down() {
    let (bad, good) = (listener().await, listener().await);
    let group = group(&[&bad, &good], OnDown::Keep);
    for _ in 0..9 {
        drop(visit(&group, &bad, Does::SpeakAndReset).await);
    }
    assert_eq!(
        health(&group, &bad),
        UpstreamHealth::Up,
        "that may be clients' doing"
    );
    drop(visit(&group, &bad, Does::SpeakAndEnd).await);
    for _ in 0..9 {
        drop(visit(&group, &bad, Does::SpeakAndReset).await);
    }
    assert_eq!(
        health(&group, &bad),
        UpstreamHealth::Up,
        "it finished one in between"
    );
    drop(visit(&group, &bad, Does::SpeakAndReset).await);
    assert_eq!(health(&group, &bad), UpstreamHealth::Down);
}

#[tokio::test]
async fn an_end_without_a_byte_is_no_finished_connection() {
    let (bad, good) = (listener().await, listener().await);
    let group = group(&[&bad, &good], OnDown::Keep);
    for _ in 0..9 {
        drop(visit(&group, &bad, Does::SpeakAndReset).await);
    }
    drop(visit(&group, &bad, Does::EndAtOnce).await);
    drop(visit(&group, &bad, Does::SpeakAndReset).await);
    assert_eq!(health(&group, &bad), UpstreamHealth::Down);
}

#[tokio::test]
async fn what_clients_may_have_caused_takes_no_last_upstream_down() {
    let (only, other) = (listener().await, listener().await);
    let group = group(&[&only, &other], OnDown::Keep);
    for _ in 0..3 {
        let dial = Err(FailureCause::Refused);
        group.dialed(other.local_addr().unwrap(), dial);
    }
    for does in [Does::EndAtOnce, Does::SpeakAndReset] {
        for _ in 0..12 {
            drop(visit(&group, &only, does).await);
        }
    }
    assert_eq!(health(&group, &other), UpstreamHealth::Down);
    assert_eq!(health(&group, &only), UpstreamHealth::Up);
}

#[tokio::test]
async fn connections_that_came_to_nothing_count_as_load_for_a_while() {
    let (bad, good) = (listener().await, listener().await);
    let group = group(&[&bad, &good], OnDown::Keep);
    for _ in 0..2 {
        drop(visit(&group, &bad, Does::EndAtOnce).await);
    }
    let chosen = |group: &Arc<UpstreamGroup>| group.lease(&[]).unwrap();
    let held: Vec<_> = (0..2).map(|_| chosen(&group)).collect();
    for lease in &held {
        assert_eq!(lease.address(), good.local_addr().unwrap());
    }
    assert_eq!(group.open(), 2, "they are no connections");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    let next = chosen(&group);
    assert_eq!(next.address(), bad.local_addr().unwrap(), "it is forgotten");
}

#[tokio::test]
async fn connections_of_an_upstream_that_goes_down_are_cut_if_the_group_wants_that() {
    for on_down in [OnDown::Cut, OnDown::Keep] {
        let upstream = listener().await;
        let group = group(&[&upstream], on_down);
        let mut report = DialReport::default();
        let (dialed, accepted) = tokio::join!(dial(&group, &mut report), upstream.accept());
        let (mut dialed, mut far) = (dialed.unwrap(), accepted.unwrap().0);
        let (mut client, mut downstream) = pair().await;
        let traffic = Traffic::new();
        let relay = dialed.relay(&mut downstream, &traffic);
        let peers = async {
            far.write_all(b"hello").await.unwrap();
            read(&mut client, 5).await;
            for _ in 0..3 {
                let address = upstream.local_addr().unwrap();
                group.dialed(address, Err(FailureCause::Refused));
            }
            if on_down == OnDown::Keep {
                client.write_all(b"still there").await.unwrap();
                read(&mut far, 11).await;
                client.shutdown().await.unwrap();
                far.shutdown().await.unwrap();
            }
        };
        let both = async { tokio::join!(relay, peers).0 };
        let ended = timeout(BOUND, both).await.unwrap();
        let was_cut = matches!(ended, Err(RelayError::UpstreamDown));
        assert_eq!(was_cut, on_down == OnDown::Cut, "{ended:?}");
        drop(downstream);
        if was_cut {
            expect_reset(&mut client).await;
            drop(dialed);
            expect_reset(&mut far).await;
        }
    }
}

#[tokio::test]
async fn what_one_client_may_have_caused_cuts_no_other_client_until_something_else_says_so() {
    let (upstream, other) = (listener().await, listener().await);
    let group = group(&[&upstream, &other], OnDown::Cut);
    let address = upstream.local_addr().unwrap();
    let lease = group.lease(&[other.local_addr().unwrap()]).unwrap();
    for _ in 0..3 {
        let ended = visit(&group, &upstream, Does::EndAtOnce).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
    assert_eq!(health(&group, &upstream), UpstreamHealth::Down);
    group.probed(address, Ok(()));
    lease.served();
    let down = lease.down().unwrap();
    assert!(!down.is_cancelled(), "it serves its other clients");
    group.probed(address, Err(FailureCause::Refused));
    assert!(down.is_cancelled(), "the probe has confirmed it");
}

#[tokio::test]
async fn what_the_gateway_lacks_is_blamed_on_no_upstream() {
    const NO_BUFFERS: i32 = 105;
    const RESET: i32 = 104;
    let (upstream, other) = (listener().await, listener().await);
    let group = group(&[&upstream, &other], OnDown::Keep);
    let lease = group.lease(&[other.local_addr().unwrap()]).unwrap();
    let (config, now) = (RelayConfig::default(), Instant::now());
    let rule = ends::rule(SideState::default(), SideState::default());
    for (errno, becomes) in [
        (NO_BUFFERS, UpstreamHealth::Up),
        (RESET, UpstreamHealth::Down),
    ] {
        let error = || io::Error::from_raw_os_error(errno);
        let ((_client, mut downstream), (mut near, _far)) = (pair().await, pair().await);
        let sides = SidesGuard {
            downstream: &mut downstream,
            upstream: &mut near,
            finished: None,
        };
        let traffic = Traffic::new();
        let mut course = RelayCourse::new(sides, config.keepalive, &traffic, Some(&lease));
        let mut clock = RelayClock::new(&config, rule, now, 0.0);
        for _ in 0..10 {
            course.observe_end(&Err(error()), &mut clock);
            course.observe_loss(&error());
        }
        assert_eq!(health(&group, &upstream), becomes, "{}", error());
    }
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_is_known_to_break_connections() {
    let (stuck, good) = (listener().await, listener().await);
    let group = group(&[&stuck, &good], OnDown::Keep);
    let config = RelayConfig {
        stall: Some(Duration::from_millis(50)),
        ..RelayConfig::default()
    };
    let lease = group.lease(&[good.local_addr().unwrap()]).unwrap();
    for _ in 0..10 {
        let mut near = tcp::connect(lease.address()).await.unwrap();
        let _far = stuck.accept().await.unwrap();
        let (mut client, mut downstream) = pair().await;
        let traffic = Traffic::new();
        let leased = (&mut near, &lease, Instant::now());
        let relay = relay_leased(&mut downstream, leased, &config, &traffic);
        let flood = async { while client.write_all(&[7; 16_384]).await.is_ok() {} };
        let ended = timeout(BOUND, async {
            tokio::select! { ended = relay => ended, () = flood => panic!("the relay ends first") }
        });
        let ended = ended.await.unwrap();
        assert!(
            matches!(ended, Err(RelayError::UpstreamStalled)),
            "{ended:?}"
        );
    }
    assert_eq!(health(&group, &stuck), UpstreamHealth::Down);
}
