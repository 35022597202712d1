//! Upgrades while clients come and go: some who must never notice, and some who want more than they
//! may have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{echoes, leave};
use crate::harness::{Gateway, Identity, Refusal, STRANGERS, World, until};

const VISITORS: usize = 3;
/// How many connections one client wants at a time, and how many it may have.
const GREEDY: usize = 8;
const LIMIT: usize = 4;
/// How many visits there are at least between two upgrades.
const BETWEEN: usize = 30;

/// Visitors who come again and again, until they are told to stop.
struct Visitors {
    stop: watch::Sender<bool>,
    /// They check each byte and must never be refused.
    steady: JoinSet<()>,
    /// They want more than they may have; each returns how often it came and how often it was
    /// refused.
    greedy: JoinSet<(usize, usize)>,
    most: Arc<AtomicUsize>,
    visits: Arc<AtomicUsize>,
}

impl Visitors {
    fn start(world: &World, addresses: &[SocketAddr]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let visits = Arc::default();
        let (alice, bob) = (world.identity("alice"), world.identity("bob"));
        let mut steady = JoinSet::new();
        for visitor in 0..VISITORS {
            let address = addresses[visitor % addresses.len()];
            let visits = Arc::clone(&visits);
            steady.spawn(come(alice.clone(), address, stopped.clone(), visits));
        }
        let mut greedy = JoinSet::new();
        let (open, most) = (Arc::default(), Arc::default());
        for visitor in 0..GREEDY {
            let address = addresses[visitor % addresses.len()];
            let counts = (Arc::clone(&open), Arc::clone(&most));
            greedy.spawn(crowd(bob.clone(), address, stopped.clone(), counts));
        }
        Self {
            stop,
            steady,
            greedy,
            most,
            visits,
        }
    }

    fn steady_visits(&self) -> usize {
        self.visits.load(SeqCst)
    }

    /// How often the steady ones came, and how often the greedy ones came and were refused.
    async fn end(self) -> (usize, usize, usize) {
        self.stop.send(true).unwrap();
        self.steady.join_all().await;
        let steady = self.visits.load(SeqCst);
        let greedy = self.greedy.join_all().await.into_iter();
        let (came, refused) = greedy.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert_eq!(self.most.load(SeqCst), LIMIT, "reached, and never exceeded");
        (steady, came, refused)
    }
}

async fn come(
    alice: Identity,
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
    visits: Arc<AtomicUsize>,
) {
    while !*stopped.borrow() {
        let mut connection = alice.visit(address, "db").await.unwrap();
        let said = format!("{} {}", connection.source, "x".repeat(1000));
        echoes(&mut connection, &said).await;
        leave(connection).await;
        visits.fetch_add(1, SeqCst);
    }
}

/// As the client sees it, a connection is open from a moment after to a moment before the gateway
/// says so: if the gateway keeps the limit, no more are ever open here.
async fn crowd(
    bob: Identity,
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
    (open, most): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> (usize, usize) {
    let (mut came, mut refused) = (0, 0);
    while !*stopped.borrow() {
        match bob.visit(address, "db").await {
            Ok(mut connection) => {
                most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
                echoes(&mut connection, "more").await;
                open.fetch_sub(1, SeqCst);
                leave(connection).await;
                came += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Reset);
                refused += 1;
            }
        }
    }
    (came, refused)
}

/// Adds a client who may have few connections.
pub(crate) fn with_a_limited_client(world: &mut World) {
    let limit = format!("groups: [db], max_connections: {LIMIT}");
    world.client("bob", &limit);
}

/// Upgrades so often, while clients come and go and some stay.
pub(crate) async fn upgrade_under_load(
    world: &World,
    gateway: &mut Gateway,
    addresses: &[SocketAddr],
    upgrades: usize,
) {
    let alice = world.identity("alice");
    let visitors = Visitors::start(world, addresses);
    let mut held = Vec::new();
    for upgrade in 0..upgrades {
        let address = addresses[upgrade % addresses.len()];
        held.push(alice.visit(address, "db").await.unwrap());
        let old = gateway.process();
        let answer = gateway.upgrade(&[]).await.unwrap();
        assert_eq!(answer["old_pid"], old);
        // Some work between two upgrades.
        let enough = visitors.steady_visits() + BETWEEN;
        until(async || (visitors.steady_visits() >= enough).then_some(())).await;
    }
    let (steady, came, refused) = visitors.end().await;
    for mut connection in held {
        echoes(&mut connection, "held through all that came after").await;
        leave(connection).await;
    }
    let records = gateway.records();
    let strangers = STRANGERS.to_string();
    let of_clients = |record: &&Value| record["source_address"] != strangers;
    let is_good = |record: &&Value| match record["reason"].as_str().unwrap() {
        // Before the first probe of all nobody is served.
        "finished" | "none_healthy" => true,
        "client_connections" => record["client"] == "bob",
        _ => false,
    };
    let of_clients = records.iter().filter(of_clients);
    let bad: Vec<&Value> = of_clients.filter(|record| !is_good(record)).collect();
    assert!(bad.is_empty(), "{bad:?}");
    println!(
        "{upgrades} upgrades: {steady} connections, none refused, reset or short of a byte; a client \
         who wants {GREEDY} at a time and may have {LIMIT} came {came} times, was refused {refused} \
         times, and never had more"
    );
}
