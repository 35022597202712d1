//! What an embedder and its clients may expect, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stop;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lb::{
    BalancerChange, ClientDenied, ClientLimits, DialError, Drained, GroupConfig, HealthConfig,
    Limit, LoadBalancer, LoadBalancerConfig, ProbeKind, StreamEnd, StreamOutcome, StreamRejection,
    UpstreamConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

const BOUND: Duration = Duration::from_secs(20);

type Handled = JoinHandle<Result<StreamEnd, StreamRejection>>;

struct World {
    balancer: Arc<LoadBalancer>,
    tasks: TaskTracker,
}

impl World {
    fn new(groups: Vec<GroupConfig>) -> Self {
        let balancer = LoadBalancer::new(LoadBalancerConfig {
            groups,
            ..LoadBalancerConfig::default()
        })
        .unwrap();
        Self {
            balancer: Arc::new(balancer),
            tasks: TaskTracker::new(),
        }
    }

    /// An upstream that says everything back.
    async fn echo(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tasks.spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    copy(&mut reader, &mut writer).await?;
                    writer.shutdown().await
                });
            }
        });
        address
    }

    async fn connect(&self, client: &'static str, group: &'static str) -> (TcpStream, Handled) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let balancer = Arc::clone(&self.balancer);
        let handled = self
            .tasks
            .spawn(async move { balancer.handle(client, group, far).await });
        (near, handled)
    }

    /// A connection that has reached its upstream.
    async fn connected(&self, client: &'static str, group: &'static str) -> (TcpStream, Handled) {
        let (mut stream, handled) = self.connect(client, group).await;
        assert_eq!(exchange(&mut stream, b"hello").await.unwrap(), b"hello");
        (stream, handled)
    }

    async fn rejected(&self, client: &'static str, group: &'static str) -> StreamRejection {
        let (mut stream, handled) = self.connect(client, group).await;
        let reset = timeout(BOUND, stream.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            reset.kind(),
            io::ErrorKind::ConnectionReset,
            "the client sees a reset"
        );
        timeout(BOUND, handled).await.unwrap().unwrap().unwrap_err()
    }

    fn open(&self, group: &str) -> u32 {
        self.balancer.group(group).unwrap().open()
    }
}

async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    timeout(BOUND, stream.read_exact(&mut answer))
        .await
        .unwrap()?;
    Ok(answer)
}

async fn finish(mut stream: TcpStream, handled: Handled) -> StreamEnd {
    stream.shutdown().await.unwrap();
    let rest = timeout(BOUND, stream.read_to_end(&mut Vec::new()))
        .await
        .unwrap();
    assert_eq!(rest.unwrap(), 0);
    timeout(BOUND, handled).await.unwrap().unwrap().unwrap()
}

fn unprobed(name: &str, upstreams: &[SocketAddr]) -> GroupConfig {
    let upstreams = upstreams.iter().copied().map(UpstreamConfig::new).collect();
    let health = HealthConfig {
        check: ProbeKind::Off,
        ..HealthConfig::default()
    };
    GroupConfig {
        health,
        ..GroupConfig::new(name, upstreams)
    }
}

fn at_most(limit: u32) -> Limit {
    Limit::AtMost(NonZeroU32::new(limit).unwrap())
}

#[tokio::test]
async fn a_stream_reaches_an_upstream_and_every_byte_is_counted() {
    let world = World::new(Vec::new());
    let echo = world.echo().await;
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[echo]))])
        .unwrap();
    let (stream, handled) = world.connected("billing", "ledger").await;
    assert_eq!(world.balancer.limiter().open("billing"), 1);
    let ended = finish(stream, handled).await;
    assert!(
        matches!(ended.outcome, StreamOutcome::Finished),
        "{ended:?}"
    );
    assert_eq!((ended.upstream, ended.sent, ended.received), (echo, 5, 5));
    assert_eq!(world.balancer.limiter().open("billing"), 0);
    assert_eq!((world.open("ledger"), world.balancer.open()), (0, 0));
}

#[tokio::test]
async fn a_started_balancer_serves_groups_that_come_later() {
    let world = World::new(Vec::new());
    world.balancer.start().unwrap();
    let echo = world.echo().await;
    world
        .balancer
        .apply([BalancerChange::PutGroup(GroupConfig::new(
            "ledger",
            vec![UpstreamConfig::new(echo)],
        ))])
        .unwrap();
    let up = async {
        while world.balancer.group("ledger").unwrap().lease(&[]).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, up)
        .await
        .expect("a fresh group becomes usable");
    let (stream, handled) = world.connected("billing", "ledger").await;
    finish(stream, handled).await;
    assert_eq!(world.balancer.stop(BOUND).await, Drained::Clean);
}

#[tokio::test]
async fn connections_are_spread_evenly() {
    let world = World::new(Vec::new());
    let echoes = [world.echo().await, world.echo().await, world.echo().await];
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &echoes))])
        .unwrap();
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(world.connected("billing", "ledger").await);
    }
    let group = world.balancer.group("ledger").unwrap();
    assert!(group.upstreams().iter().all(|upstream| upstream.open == 3));
}

#[tokio::test]
async fn each_reason_to_turn_a_client_away_is_told_and_resets_it() {
    let world = World::new(Vec::new());
    let echo = world.echo().await;
    assert!(matches!(
        world.rejected("billing", "ledger").await,
        StreamRejection::UnknownGroup
    ));
    let alone = ClientLimits {
        connections: at_most(1),
        ..ClientLimits::default()
    };
    world
        .balancer
        .apply([
            BalancerChange::PutGroup(GroupConfig {
                max_connections: at_most(2),
                ..unprobed("ledger", &[echo])
            }),
            BalancerChange::PutGroup(unprobed("empty", &[])),
            BalancerChange::Connections(at_most(3)),
            BalancerChange::Client(alone),
        ])
        .unwrap();
    let rejected = world.rejected("billing", "empty").await;
    assert!(
        matches!(rejected, StreamRejection::Dial(DialError::NoneHealthy)),
        "{rejected:?}"
    );
    let _first = world.connected("billing", "ledger").await;
    let rejected = world.rejected("billing", "ledger").await;
    let denied = ClientDenied::ClientConnections { limit: at_most(1) };
    assert!(
        matches!(rejected, StreamRejection::Denied(reason) if reason == denied),
        "{rejected:?}"
    );
    let _second = world.connected("reports", "ledger").await;
    let rejected = world.rejected("audit", "ledger").await;
    assert!(
        matches!(rejected, StreamRejection::Dial(DialError::GroupFull { .. })),
        "{rejected:?}"
    );
    world
        .balancer
        .apply([BalancerChange::Connections(at_most(2))])
        .unwrap();
    assert!(matches!(
        world.rejected("audit", "ledger").await,
        StreamRejection::Full { .. }
    ));
    assert_eq!(
        (world.balancer.open(), world.open("ledger")),
        (2, 2),
        "refusals count nothing"
    );
}

#[tokio::test]
async fn a_client_with_all_connections_open_waits_for_one_unless_it_leaves_or_the_balancer_stops() {
    let world = World::new(Vec::new());
    let echo = world.echo().await;
    let limits = ClientLimits {
        connections: at_most(1),
        wait: BOUND,
        ..ClientLimits::default()
    };
    let group = BalancerChange::PutGroup(unprobed("ledger", &[echo]));
    world
        .balancer
        .apply([group, BalancerChange::Client(limits)])
        .unwrap();
    let waits = async || {
        while world.balancer.limiter().waiting("billing") == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let (first, _) = world.connected("billing", "ledger").await;

    let (left, handled) = world.connect("billing", "ledger").await;
    timeout(BOUND, waits()).await.unwrap();
    left.set_zero_linger().unwrap();
    drop(left);
    let rejected = timeout(BOUND, handled).await.unwrap().unwrap();
    assert!(
        matches!(rejected, Err(StreamRejection::Left)),
        "{rejected:?}"
    );

    let next = world.connected("billing", "ledger");
    let leave = async {
        timeout(BOUND, waits()).await.unwrap();
        drop(first);
    };
    let ((_second, _), ()) = tokio::join!(next, leave);

    let (_last, handled) = world.connect("billing", "ledger").await;
    timeout(BOUND, waits()).await.unwrap();
    let (_, rejected) = tokio::join!(world.balancer.stop(Duration::ZERO), handled);
    let rejected = rejected.unwrap();
    assert!(
        matches!(rejected, Err(StreamRejection::Stopping)),
        "{rejected:?}"
    );
}

#[tokio::test]
async fn changes_touch_no_live_connection_and_a_group_that_returns_still_counts_it() {
    let world = World::new(Vec::new());
    let (echo, other) = (world.echo().await, world.echo().await);
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[echo]))])
        .unwrap();
    let (mut stream, handled) = world.connected("billing", "ledger").await;
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[other]))])
        .unwrap();
    assert_eq!(exchange(&mut stream, b"altered").await.unwrap(), b"altered");
    world
        .balancer
        .apply([BalancerChange::RemoveGroup("ledger".into())])
        .unwrap();
    assert!(world.balancer.group("ledger").is_none());
    assert!(matches!(
        world.rejected("billing", "ledger").await,
        StreamRejection::UnknownGroup
    ));
    assert_eq!(exchange(&mut stream, b"removed").await.unwrap(), b"removed");
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[echo]))])
        .unwrap();
    let open: Vec<_> = world
        .balancer
        .group("ledger")
        .unwrap()
        .upstreams()
        .iter()
        .map(|u| u.open)
        .collect();
    assert_eq!(open, [1]);
    assert_eq!(finish(stream, handled).await.upstream, echo);
    assert_eq!(world.open("ledger"), 0);
}

#[tokio::test]
async fn changes_from_any_thread_are_seen_whole() {
    let world = World::new(Vec::new());
    let write = &|writer: u32| {
        for round in 0..100 {
            let names = ["a", "b"].map(|side| format!("{writer}-{round}-{side}"));
            world
                .balancer
                .apply(names.map(|name| BalancerChange::PutGroup(unprobed(&name, &[]))))
                .unwrap();
        }
    };
    let read = || {
        for _ in 0..1000 {
            assert_eq!(
                world.balancer.groups().len() % 2,
                0,
                "half a change was seen"
            );
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|writer| drop(scope.spawn(move || write(writer))));
        scope.spawn(read);
    });
    assert_eq!(world.balancer.groups().len(), 800);
}

#[tokio::test]
async fn a_connection_that_its_upstream_breaks_off_is_told_as_broken() {
    let world = World::new(Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[upstream]))])
        .unwrap();
    let (mut stream, handled) = world.connect("billing", "ledger").await;
    let (mut far, _) = listener.accept().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    far.read_exact(&mut [0; 5]).await.unwrap();
    far.set_zero_linger().unwrap();
    drop(far);
    let reset = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    let ended = timeout(BOUND, handled).await.unwrap().unwrap().unwrap();
    assert!(
        matches!(ended.outcome, StreamOutcome::Broken(_)),
        "{ended:?}"
    );
}
