//! What it costs to lease an upstream and return it, alone and among threads.
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use lb::{
    BalancerChange, ClientLimits, GroupConfig, HealthConfig, Limiter, LoadBalancer,
    LoadBalancerConfig, ProbeKind, SharedName, UpstreamConfig, UpstreamGroup,
};

const THREADS: u64 = 4;

fn config(name: &str, upstreams: u16) -> GroupConfig {
    let address = |n| SocketAddr::from(([127, 0, 0, 1], n + 1));
    let upstreams = (0..upstreams)
        .map(|n| UpstreamConfig::new(address(n)))
        .collect();
    let health = HealthConfig {
        check: ProbeKind::Off,
        ..HealthConfig::default()
    };
    GroupConfig {
        health,
        ..GroupConfig::new(name, upstreams)
    }
}

fn lease_and_return(group: &Arc<UpstreamGroup>) {
    drop(black_box(group.lease(&[])));
}

/// The time per lease that each of four threads sees while all of them lease.
fn contended(group: &Arc<UpstreamGroup>, rounds: u64) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..rounds).for_each(|_| lease_and_return(group)));
        }
    });
    begun.elapsed()
}

fn choose(criterion: &mut Criterion) {
    for upstreams in [1, 100, 10_000] {
        let group =
            Arc::new(UpstreamGroup::alone(config("bench", upstreams)).expect("it is as usual"));
        let id = |name| format!("{name}, {upstreams} upstreams");
        criterion.bench_function(&id("alone"), |b| b.iter(|| lease_and_return(&group)));
        criterion.bench_function(&id("four threads"), |b| {
            b.iter_custom(|rounds| contended(&group, rounds));
        });
    }
}

fn change(criterion: &mut Criterion) {
    let groups = (0..100_000)
        .map(|n| config(&format!("group-{n}"), 2))
        .collect();
    let balancer = LoadBalancer::new(LoadBalancerConfig {
        groups,
        ..LoadBalancerConfig::default()
    })
    .expect("it is as usual");
    let mut upstreams = 2;
    criterion.bench_function("change one of 100,000 groups", |b| {
        b.iter(|| {
            upstreams ^= 1;
            balancer
                .apply([BalancerChange::PutGroup(config("group-500", upstreams))])
                .expect("it is as usual");
        });
    });
    criterion.bench_function("find one of 100,000 groups", |b| {
        b.iter(|| balancer.group(black_box("group-500")));
    });
}

/// A client's lease, by how many others are known.
fn admit(criterion: &mut Criterion) {
    let limits = ClientLimits::default();
    for known in [1, 1_000_000] {
        let limiter = Limiter::default();
        let clients: Vec<SharedName> = (0..known).map(|n| format!("client-{n}").into()).collect();
        let held: Vec<_> = clients
            .iter()
            .map(|client| limiter.admit(client, &limits).expect("no limit"))
            .collect();
        let mut next = 0;
        criterion.bench_function(&format!("admit one of {known} clients"), |b| {
            b.iter(|| {
                // Far from the last one, so that no cache helps.
                next = (next + 7919) % known;
                limiter.admit(&clients[next], &limits)
            });
        });
        drop(held);
    }
}

criterion_group!(benches, choose, change, admit);
criterion_main!(benches);
