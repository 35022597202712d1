//! The live state of one group: who is healthy, and who has how many connections.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, mem,
    net::SocketAddr,
    num::NonZeroU32,
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::Instant};
use tracing::{info, warn};

use crate::{
    balancer::{Balancer, Tier},
    group_config::{GroupConfig, HealthConfig, UpstreamConfig, UpstreamState, WhenAllDown},
    health::{Condition, Health, Observation},
    lease::{Lease, NoLease},
    limit::{Limit, Name},
    probe::{Check, Prober},
};

/// A named set of upstreams, alive.
///
/// Its configuration changes under live connections by difference: upstreams that stay keep their
/// counts, their health and the phase of their probes, and an upstream that is removed and added
/// again while it has connections keeps counting them.
pub struct Group {
    name: Name,
    config: ArcSwap<GroupConfig>,
    book: Mutex<Book>,
    probes: Mutex<BTreeMap<SocketAddr, AbortHandle>>,
}

/// One upstream as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// What is known about it.
    pub health: Health,
    /// What the operator wants of it.
    pub state: UpstreamState,
    /// How many connections it has, dials in flight included.
    pub open: u32,
    /// Its share.
    pub weight: NonZeroU32,
    /// Whether it serves only when no other is healthy.
    pub backup: bool,
}

impl Group {
    /// A group whose upstreams are yet unknown, or up if they are never probed.
    pub fn new(config: GroupConfig) -> Self {
        let mut book = Book::default();
        book.alter(&config);
        Self {
            name: Arc::clone(&config.name),
            config: ArcSwap::from_pointee(config),
            book: Mutex::new(book),
            probes: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its configuration as of now.
    pub fn config(&self) -> Arc<GroupConfig> {
        self.config.load_full()
    }

    /// How many connections it has in all, those on removed upstreams included.
    pub fn open(&self) -> u32 {
        self.book.lock().balancer.open()
    }

    /// Its upstreams as they are now, in the order of the configuration.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let mut book = self.book.lock();
        book.end_rests();
        let config = self.config.load();
        config
            .upstreams
            .iter()
            .filter_map(|upstream| book.status(upstream.address))
            .collect()
    }

    /// Leases the upstream with the fewest connections over its weight among the healthy ones that
    /// are not in `tried`; ties go in turn.
    pub fn lease(self: &Arc<Self>, tried: &[SocketAddr]) -> Result<Lease, NoLease> {
        let address = self.book.lock().choose(tried)?;
        Ok(Lease::counted(Arc::clone(self), address))
    }

    /// Counts a connection to an upstream that another process has, whatever the limits say and
    /// whether or not the upstream is configured here.
    pub fn adopt(self: &Arc<Self>, upstream: SocketAddr) -> Lease {
        self.book.lock().balancer.adopt(upstream);
        Lease::counted(Arc::clone(self), upstream)
    }

    /// Believes what another process found out about an upstream, unless something is known here.
    /// Probes go on from there.
    pub fn assume(&self, upstream: SocketAddr, health: Health) {
        self.book
            .lock()
            .observe(upstream, |condition, _| condition.or(health));
    }

    pub(crate) fn give_back(&self, address: SocketAddr) {
        self.book.lock().balancer.give_back(address);
    }

    /// Takes note of what a probe said.
    pub(crate) fn probed(&self, address: SocketAddr, probe: Observation) {
        let moved = self.book.lock().observe(address, |condition, health| {
            condition.probed(probe, health.thresholds())
        });
        self.report(address, moved);
    }

    /// Takes note of how a dial for a client went.
    pub(crate) fn dialed(&self, address: SocketAddr, dial: Observation) {
        let moved = self.book.lock().observe(address, |condition, health| {
            condition.dialed(dial, health.thresholds())
        });
        self.report(address, moved);
    }

    /// What is known about the upstream, unless it was removed.
    pub(crate) fn health(&self, address: SocketAddr) -> Option<Health> {
        Some(self.book.lock().standings.get(&address)?.condition.health())
    }

    /// Changes the configuration by difference.
    ///
    /// Other health settings stop the probes; [`Group::probe`] starts them in the new way.
    pub(crate) fn alter(&self, config: GroupConfig) {
        let mut book = self.book.lock();
        let before = self.config.load_full();
        if *before == config {
            return;
        }
        book.alter(&config);
        let all_anew = before.health != config.health;
        self.config.store(Arc::new(config));
        drop(book);
        if all_anew {
            self.stop_probes();
        }
    }

    /// Sees to it that exactly those upstreams are probed that should be.
    pub(crate) fn probe(self: &Arc<Self>, prober: &Prober) {
        let config = self.config.load_full();
        let wanted: Vec<_> = match config.health.check {
            Check::Off => Vec::new(),
            Check::Tcp | Check::SendExpect { .. } | Check::Custom(_) => {
                let asked = |upstream: &&UpstreamConfig| upstream.state != UpstreamState::Maint;
                config
                    .upstreams
                    .iter()
                    .filter(asked)
                    .map(|upstream| upstream.address)
                    .collect()
            }
        };
        let mut running = self.probes.lock();
        let mut kept = BTreeMap::new();
        for address in wanted {
            let started = running.remove(&address);
            kept.entry(address)
                .or_insert_with(|| started.unwrap_or_else(|| prober.spawn(self, address)));
        }
        for unwanted in mem::replace(&mut *running, kept).into_values() {
            unwanted.abort();
        }
    }

    /// Ends every probe.
    pub(crate) fn stop_probes(&self) {
        for probe in mem::take(&mut *self.probes.lock()).into_values() {
            probe.abort();
        }
    }

    #[cfg(test)]
    pub(crate) fn probe_ids(&self) -> Vec<tokio::task::Id> {
        self.probes.lock().values().map(AbortHandle::id).collect()
    }

    fn report(&self, upstream: SocketAddr, moved: Option<(Health, Health)>) {
        let group = &*self.name;
        match moved {
            Some((_, Health::Up)) => info!(group, %upstream, "upstream is up"),
            Some((from, Health::Down)) => warn!(group, %upstream, %from, "upstream is down"),
            Some((_, Health::Unknown)) | None => {}
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop_probes();
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What one lock guards: health, tiers and counts change together or not at all.
#[derive(Debug, Default)]
struct Book {
    balancer: Balancer,
    standings: HashMap<SocketAddr, Standing>,
    /// Upstreams without probes that failed, and when they are tried again.
    resting: BTreeSet<(Instant, SocketAddr)>,
    health: HealthConfig,
    limit: Limit,
    when_all_down: WhenAllDown,
}

#[derive(Debug)]
struct Standing {
    config: UpstreamConfig,
    condition: Condition,
}

impl Standing {
    fn tier(&self) -> Tier {
        match (self.config.state, self.condition.health()) {
            (UpstreamState::Drain | UpstreamState::Maint, _) => Tier::Out,
            (UpstreamState::Ready, Health::Unknown) => Tier::Out,
            (UpstreamState::Ready, Health::Down) => Tier::Down,
            (UpstreamState::Ready, Health::Up) if self.config.backup => Tier::Backup,
            (UpstreamState::Ready, Health::Up) => Tier::Primary,
        }
    }
}

impl Book {
    fn choose(&mut self, tried: &[SocketAddr]) -> Result<SocketAddr, NoLease> {
        self.end_rests();
        if !self.limit.allows(self.balancer.open()) {
            return Err(NoLease::GroupFull { limit: self.limit });
        }
        self.balancer.choose(tried, self.when_all_down)
    }

    fn alter(&mut self, config: &GroupConfig) {
        let wanted: HashMap<_, _> = config
            .upstreams
            .iter()
            .map(|upstream| (upstream.address, *upstream))
            .collect();
        let balancer = &mut self.balancer;
        self.standings.retain(|address, _| {
            let stays = wanted.contains_key(address);
            if !stays {
                balancer.remove(*address);
            }
            stays
        });
        let was_off = self.health.check == Check::Off;
        self.health = config.health.clone();
        self.limit = config.max_connections;
        self.when_all_down = config.when_all_down;
        let assumed = match config.health.check {
            Check::Off => Condition::UP,
            Check::Tcp | Check::SendExpect { .. } | Check::Custom(_) => Condition::UNKNOWN,
        };
        for &UpstreamConfig { address, .. } in &config.upstreams {
            let config = wanted[&address];
            let standing = self.standings.entry(address).or_insert(Standing {
                config,
                condition: assumed,
            });
            standing.config = config;
            let forgotten = match (config.state, standing.condition) {
                (UpstreamState::Maint, _) => true,
                (_, Condition::Unknown { .. }) => assumed == Condition::UP,
                (_, Condition::Up { .. }) => false,
                // One that went down without probes has a rest to end.
                (_, Condition::Down { .. }) => assumed == Condition::UP && !was_off,
            };
            if forgotten {
                standing.condition = assumed;
            }
            let tier = standing.tier();
            self.balancer.put(address, config.weight, tier);
        }
    }

    fn observe(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(Condition, &HealthConfig) -> Condition,
    ) -> Option<(Health, Health)> {
        let standing = self.standings.get_mut(&address)?;
        if standing.config.state == UpstreamState::Maint {
            return None;
        }
        let before = standing.condition.health();
        standing.condition = next(standing.condition, &self.health);
        let after = standing.condition.health();
        if before == after {
            return None;
        }
        self.balancer
            .put(address, standing.config.weight, standing.tier());
        if after == Health::Down && self.health.check == Check::Off {
            self.resting
                .insert((Instant::now() + self.health.interval, address));
        }
        Some((before, after))
    }

    /// Puts on trial those upstreams without probes that have rested long enough.
    fn end_rests(&mut self) {
        if self.resting.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(_, address)) = self.resting.first().filter(|rest| rest.0 <= now) {
            self.resting.pop_first();
            let Some(standing) = self.standings.get_mut(&address) else {
                continue;
            };
            if standing.condition.health() == Health::Down && self.health.check == Check::Off {
                standing.condition = Condition::on_trial(self.health.thresholds());
                self.balancer
                    .put(address, standing.config.weight, standing.tier());
            }
        }
    }

    fn status(&self, address: SocketAddr) -> Option<UpstreamStatus> {
        let Standing { config, condition } = self.standings.get(&address)?;
        Some(UpstreamStatus {
            address,
            health: condition.health(),
            state: config.state,
            open: self.balancer.active(address),
            weight: config.weight,
            backup: config.backup,
        })
    }
}

#[cfg(test)]
mod tests;
