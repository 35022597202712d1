//! Whatever somebody configures is refused in words or works; nothing panics.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::{io, panic, thread};

use lb::{
    BalancerChange, ClientLimits, DialConfig, GroupConfig, HealthConfig, Limit, LoadBalancer,
    LoadBalancerConfig, ProbeKind, Rate, RelayConfig, UpstreamConfig, UpstreamState, WhenAllDown,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn any_time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (1..5000_u64).prop_map(Duration::from_millis),
        3 => select(vec![
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_hours(10),
            Duration::from_hours(100 * 366 * 24),
            Duration::MAX,
        ]),
    ]
}

fn any_share() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..=1.0, 1 => select(vec![f64::NAN, f64::INFINITY, -1.0, 2.0])]
}

fn any_number() -> impl Strategy<Value = NonZeroU32> {
    select(vec![1, 2, u32::MAX]).prop_map(|n| NonZeroU32::new(n).unwrap())
}

fn any_limit() -> impl Strategy<Value = Limit> {
    prop_oneof![Just(Limit::Unlimited), any_number().prop_map(Limit::AtMost)]
}

fn any_health() -> impl Strategy<Value = HealthConfig> {
    let answer = ProbeKind::SendExpect {
        send: b"ping".to_vec(),
        expect: b"pong".to_vec(),
    };
    let check = select(vec![ProbeKind::Off, ProbeKind::Tcp, answer]);
    (
        check,
        any_time(),
        any_time(),
        any_number(),
        any_number(),
        any_share(),
    )
        .prop_map(
            |(check, interval, timeout, rise, fall, jitter)| HealthConfig {
                check,
                interval,
                timeout,
                rise,
                fall,
                jitter,
                ..HealthConfig::default()
            },
        )
}

fn any_group() -> impl Strategy<Value = GroupConfig> {
    let dial = (any_time(), any_time(), 1..4_u32).prop_map(|(connect, budget, tries)| DialConfig {
        connect,
        budget,
        tries: NonZeroU32::new(tries).unwrap(),
    });
    let limit = || prop::option::of(any_time());
    let limits = (limit(), limit(), limit(), limit());
    let relay = (limits, any_share(), any_time()).prop_map(
        |((idle, half_closed, stall, lifetime), lifetime_jitter, keepalive)| RelayConfig {
            idle,
            half_closed,
            stall,
            lifetime,
            lifetime_jitter,
            keepalive,
        },
    );
    let when = select(vec![WhenAllDown::Refuse, WhenAllDown::TryAll]);
    (any_health(), dial, relay, any_limit(), when, any_number()).prop_map(
        |(health, dial, relay, max_connections, when_all_down, weight)| {
            // Nobody listens there: it is the way of failing dials that is gone.
            let gone = SocketAddr::from(([127, 0, 0, 1], 1));
            let upstream = |state| UpstreamConfig {
                weight,
                state,
                ..UpstreamConfig::new(gone)
            };
            GroupConfig {
                health,
                dial,
                relay,
                max_connections,
                when_all_down,
                ..GroupConfig::new("ledger", vec![upstream(UpstreamState::Ready)])
            }
        },
    )
}

fn any_client() -> impl Strategy<Value = ClientLimits> {
    let rate = (any_number(), any_time()).prop_map(|(events, per)| Rate::new(events, per));
    (any_limit(), prop::option::of(rate)).prop_map(|(connections, rate)| ClientLimits {
        connections,
        rate,
        ..ClientLimits::default()
    })
}

/// Two streams through a balancer that is configured so, and another configuration in between. Time
/// is tokio's, and goes on whenever nothing else happens.
async fn lives(client: ClientLimits, groups: Vec<GroupConfig>, echo: SocketAddr) -> io::Result<()> {
    let balancer = LoadBalancer::default();
    balancer.start().unwrap();
    balancer.apply([BalancerChange::Client(client)]).unwrap();
    for mut group in groups {
        group.upstreams.push(UpstreamConfig::new(echo));
        if balancer
            .apply([BalancerChange::PutGroup(group.clone())])
            .is_err()
        {
            let config = LoadBalancerConfig {
                groups: vec![group],
                ..LoadBalancerConfig::default()
            };
            assert!(LoadBalancer::new(config).is_err(), "both say the same");
            continue;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut near = TcpStream::connect(listener.local_addr()?).await?;
        let (far, _) = listener.accept().await?;
        near.write_all(b"hello").await?;
        near.shutdown().await?;
        let handled = balancer.handle("billing", "ledger", far);
        // Whatever comes of it.
        drop(timeout(Duration::from_mins(1), handled).await);
    }
    let _drained = balancer.stop(Duration::ZERO).await;
    Ok(())
}

#[test]
fn whatever_is_configured_is_refused_or_works_without_a_panic() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let usual = panic::take_hook();
    // Tasks run on the thread of their runtime; other tests' panics are theirs.
    let own = thread::current().id();
    panic::set_hook(Box::new(move |panicked| {
        if thread::current().id() == own {
            PANICS.fetch_add(1, SeqCst);
        }
        usual(panicked);
    }));
    let cases = ProptestConfig {
        cases: 1024,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(cases, |(client in any_client(), groups in vec(any_group(), 1..4))| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let lived = runtime.block_on(async {
            let upstream = TcpListener::bind("127.0.0.1:0").await?;
            let echo = upstream.local_addr()?;
            lives(client, groups, echo).await
        });
        prop_assert!(lived.is_ok());
        // Tasks of the balancer panic by themselves: nobody hears of it but the hook.
        prop_assert_eq!(PANICS.load(SeqCst), 0);
    });
}
