//! The changes of a soak: what happens when, and how it is checked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription::CertificateRevoked;
use tokio::time::{Instant, sleep_until};

use super::figures::Figures;
use crate::harness::{Gateway, Identity, Refusal, Upstream, World, until};
use crate::revocation::revoke;

/// How often events come, in tenths of a minute.
const EVENTS: [(Event, u32); 6] = [
    (Event::Sample, 2),
    (Event::Flap, 5),
    (Event::Reload, 10),
    (Event::Revoke, 10),
    (Event::Rotate, 30),
    (Event::Upgrade, 100),
];

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The memory of the process that serves is looked at.
    Sample,
    /// An upstream dies, or comes back.
    Flap,
    /// The policy changes, or becomes wrong for a moment.
    Reload,
    /// A client's certificate is revoked while it is connected.
    Revoke,
    /// The access log is moved away and opened again.
    Rotate,
    /// A new process takes over.
    Upgrade,
}

/// What comes next, and when.
#[derive(Debug)]
pub(crate) struct Timetable {
    tenth: Duration,
    due: Vec<(Instant, Event, u32)>,
    end: Instant,
}

impl Timetable {
    pub(crate) fn new(minute: Duration, duration: Duration) -> Self {
        let (now, tenth) = (Instant::now(), minute / 10);
        let first = |(event, every): (Event, u32)| (now + tenth * every, event, every);
        Self {
            tenth,
            due: EVENTS.into_iter().map(first).collect(),
            end: now + duration,
        }
    }

    /// Waits for the next event, unless the end comes first.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let next = self.due.iter_mut().min_by_key(|(at, ..)| *at)?;
        if next.0 >= self.end {
            sleep_until(self.end).await;
            return None;
        }
        sleep_until(next.0).await;
        next.0 = Instant::now() + self.tenth * next.2;
        Some(next.1)
    }
}

/// Everything that is there.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) gateway: Gateway,
    figures: Arc<Figures>,
    _steady: [Upstream; 2],
    flapping: Option<Upstream>,
    flapping_address: std::net::SocketAddr,
    reloads: u64,
    revoked: Vec<certgen::IssuedCertificate>,
}

impl Stage {
    pub(crate) async fn set(figures: Arc<Figures>) -> Self {
        let steady = [Upstream::start("db").await, Upstream::start("db").await];
        let flapping = Upstream::start("flap").await;
        let mut world = World::new();
        world.gateway_line("admin: {socket: admin.sock}");
        world.gateway_line("timeouts: {drain: 5s}");
        world.honour_revocations();
        let health = "health: {check: tcp, interval: 200ms, rise: 1, fall: 2}";
        world.group("db", &[&steady[0], &steady[1]], health);
        world.group("flap", &[&flapping], health);
        for client in ["alice", "guest"] {
            world.client(client, "groups: [db, flap]");
        }
        world.client("bob", "groups: [db], max_connections: 4");
        revoke(&world, &[], 1);
        let gateway = world.start().await;
        let address = flapping.address();
        Self {
            world,
            gateway,
            figures,
            _steady: steady,
            flapping: Some(flapping),
            flapping_address: address,
            reloads: 0,
            revoked: Vec::new(),
        }
    }

    pub(crate) async fn carry_out(&mut self, event: Event) {
        match event {
            Event::Sample => self.figures.sample(self.gateway.process()),
            Event::Flap => self.flap().await,
            Event::Reload => self.reload().await,
            Event::Revoke => self.revoke().await,
            Event::Rotate => self.rotate().await,
            Event::Upgrade => self.upgrade().await,
        }
    }

    async fn flap(&mut self) {
        self.flapping = match self.flapping.take() {
            Some(upstream) => {
                upstream.die().await;
                None
            }
            None => Some(Upstream::start_at("flap", self.flapping_address).await),
        };
        Figures::add(&self.figures.flaps);
    }

    /// Every third policy is wrong: the one before stays in force, and the next one is put in
    /// force.
    async fn reload(&mut self) {
        self.reloads += 1;
        if self.reloads.is_multiple_of(3) {
            let wrong = self
                .world
                .policy()
                .replace("groups: [db]", "groups: [nowhere]");
            self.world.write("policy.yaml", &wrong);
            self.gateway
                .logged("the policy was not reloaded; the old one stays in force")
                .await;
            Figures::add(&self.figures.refused_reloads);
        }
        let passing = format!("passing{}", self.reloads);
        self.world
            .client(&passing, "groups: [db], max_connections: 1");
        if self.reloads > 1 {
            let last = format!("passing{}", self.reloads - 1);
            self.world.remove_client(&last);
        }
        self.gateway.reload(&self.world).await;
        Figures::add(&self.figures.reloads);
    }

    async fn revoke(&mut self) {
        let issued = self.world.authority.client("guest").unwrap();
        let guest = Identity::of(&self.world.authority, &issued);
        let address = self.gateway.address;
        let mut connected = match guest.visit(address, "db").await {
            Ok(connected) => connected,
            Err(refusal) => return self.figures.failed(format!("guest: {refusal:?}")),
        };
        self.revoked.push(issued);
        let all: Vec<_> = self.revoked.iter().collect();
        let number = u64::try_from(all.len()).unwrap() + 1;
        revoke(&self.world, &all, number);
        let end = connected.end().await;
        if end != Refusal::Reset {
            self.figures.failed(format!("revoked, but: {end:?}"));
        }
        match guest.visit(address, "db").await {
            Err(Refusal::Alert(CertificateRevoked)) => Figures::add(&self.figures.revocations),
            other => self.figures.failed(format!("revoked, and then: {other:?}")),
        }
    }

    async fn rotate(&mut self) {
        let (log, moved) = (
            self.world.path("access.log"),
            self.world.path("access.log.1"),
        );
        std::fs::rename(&log, &moved).unwrap();
        self.gateway.signal("USR1");
        until(async || log.exists().then_some(())).await;
        self.count_records(&moved);
    }

    fn count_records(&self, log: &Path) {
        let text = std::fs::read_to_string(log).unwrap();
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
            if record["event"] == "opened" || record["event"] == "open" {
                continue;
            }
            let reason = record["reason"].as_str().unwrap_or("none");
            self.figures.recorded(reason);
            if reason == "internal" || !record["lost"].is_null() {
                self.figures.failed(format!("a record says: {line}"));
            }
        }
    }

    async fn upgrade(&mut self) {
        match self.gateway.upgrade(&[]).await {
            Ok(_) => Figures::add(&self.figures.upgrades),
            Err(error) => self.figures.failed(format!("upgrade: {error}")),
        }
    }

    /// Ends the gateway as an operator does, after all clients have gone.
    pub(crate) async fn end(self) {
        self.gateway.signal("TERM");
        let process = self.gateway.process();
        until(async || {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
                .then_some(())
        })
        .await;
        self.count_records(&self.world.path("access.log"));
    }
}
