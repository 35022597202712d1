//! The live state of one group: who is healthy, and who has how many connections.

mod change;
mod first_verdict;
mod report;
mod state;

use std::{collections::BTreeMap, fmt, mem, net::SocketAddr, num::NonZeroU32, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::{
    cause::FailureCause,
    config_error::ConfigError,
    group_config::{GroupConfig, UpstreamConfig, UpstreamState},
    health::{Observation, UpstreamHealth},
    lease::{Lease, NoLease},
    limit::SharedName,
    probe::{ProbeKind, Prober},
};
use first_verdict::FirstVerdict;
use state::GroupState;

/// A named set of upstreams, alive.
///
/// Its configuration changes under live connections by difference: upstreams that stay keep their
/// counts, their health and the phase of their probes, and an upstream that is removed and added
/// again while it has connections keeps counting them.
pub struct UpstreamGroup {
    name: SharedName,
    config: ArcSwap<GroupConfig>,
    state: Mutex<GroupState>,
    first_verdict: FirstVerdict,
    probes: Mutex<BTreeMap<SocketAddr, AbortHandle>>,
}

/// One upstream as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct UpstreamStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// What is known about it.
    pub health: UpstreamHealth,
    /// Why its last probe or dial failed, unless one has succeeded since.
    pub cause: Option<FailureCause>,
    /// What the operator wants of it.
    pub state: UpstreamState,
    /// How many connections it has, dials in flight included.
    pub open: u32,
    /// Its share.
    pub weight: NonZeroU32,
    /// Whether it serves only when no other is healthy.
    pub backup: bool,
}

impl UpstreamGroup {
    /// A group by itself, outside a load balancer: nobody probes its upstreams, which are yet unknown,
    /// or up if they are never to be probed.
    pub fn alone(config: GroupConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self::new(config))
    }

    /// A group that was checked, whose upstreams are yet unknown, or up if they are never probed.
    pub(crate) fn new(config: GroupConfig) -> Self {
        let mut book = GroupState::default();
        book.configure(&config);
        for &upstream in &config.upstreams {
            book.put(upstream);
        }
        Self {
            name: Arc::clone(&config.name),
            config: ArcSwap::from_pointee(config),
            state: Mutex::new(book),
            first_verdict: FirstVerdict::default(),
            probes: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &SharedName {
        &self.name
    }

    /// Its configuration as of now.
    pub fn config(&self) -> Arc<GroupConfig> {
        self.config.load_full()
    }

    /// How many connections it has in all, those on removed upstreams included.
    pub fn open(&self) -> u32 {
        self.state.lock().balancer.open()
    }

    /// Its upstreams as they are now, in the order of the configuration.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let mut book = self.state.lock();
        book.end_cool_downs();
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
        let (address, down) = self.state.lock().choose(tried)?;
        Ok(Lease::counted(Arc::clone(self), address, down))
    }

    /// Counts a connection to an upstream that another process has, whatever the limits say and
    /// whether or not the upstream is configured here.
    pub fn adopt(self: &Arc<Self>, upstream: SocketAddr) -> Lease {
        self.state.lock().balancer.adopt(upstream);
        Lease::counted(Arc::clone(self), upstream, None)
    }

    /// Believes what another process found out about an upstream, unless something is known here.
    /// Probes go on from there.
    pub fn assume(&self, upstream: SocketAddr, health: UpstreamHealth) {
        let mut book = self.state.lock();
        book.observe(upstream, |condition, _| condition.or(health));
        self.settle(&book);
    }

    pub(crate) fn give_back(&self, address: SocketAddr) {
        let vacated = self.state.lock().give_back(address);
        self.report_vacated(vacated);
    }

    /// Takes note of what a probe said.
    pub(crate) fn probed(&self, address: SocketAddr, probe: Result<(), FailureCause>) {
        let observation = Observation::of(&probe);
        let mut book = self.state.lock();
        let moved = book.observe(address, |condition, health| {
            condition.probed(observation, health.thresholds())
        });
        if observation == Observation::Failed {
            book.confirm(address);
        }
        book.explain(address, probe.err());
        self.report(book, address, moved);
    }

    /// Takes note of how a dial for a client went.
    pub(crate) fn dialed(&self, address: SocketAddr, dial: Result<(), FailureCause>) {
        let observation = Observation::of(&dial);
        let mut book = self.state.lock();
        let moved = book.observe(address, |condition, health| {
            condition.dialed(observation, health.thresholds())
        });
        if dial.is_err() {
            book.confirm(address);
            book.explain(address, dial.err());
        }
        self.report(book, address, moved);
    }

    /// Takes note of how a relay ended.
    pub(crate) fn relayed(&self, address: SocketAddr, relay: Result<(), FailureCause>) {
        let observation = Observation::of(&relay);
        let mut book = self.state.lock();
        let moved = book.suspect(address, |condition, health| {
            condition.relayed(observation, health.thresholds())
        });
        if relay.is_err() {
            book.explain(address, relay.err());
        }
        self.report(book, address, moved);
    }

    /// Takes note that the upstream ended a connection at once and without a byte.
    pub(crate) fn fell_short(&self, address: SocketAddr, cause: FailureCause) {
        let mut book = self.state.lock();
        let moved = book.suspect(address, |condition, health| {
            condition.dialed(Observation::Failed, health.thresholds())
        });
        book.count_failed(address);
        book.explain(address, Some(cause));
        self.report(book, address, moved);
    }

    /// What is known about the upstream, unless it was removed.
    pub(crate) fn health(&self, address: SocketAddr) -> Option<UpstreamHealth> {
        self.state.lock().health(address)
    }

    /// Sees to it that exactly those upstreams are probed that should be.
    pub(crate) fn probe(self: &Arc<Self>, prober: &Prober) {
        let config = self.config.load_full();
        self.begin_probing();
        let wanted: Vec<_> = match config.health.check {
            ProbeKind::Off => Vec::new(),
            ProbeKind::Tcp | ProbeKind::SendExpect { .. } | ProbeKind::Custom(_) => {
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

    /// Ends the group's probes. Its connections go on.
    pub(crate) fn retire(&self) {
        let vacated = self.state.lock().retire();
        self.stop_probes();
        self.report_vacated(vacated);
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
}

impl Drop for UpstreamGroup {
    fn drop(&mut self) {
        self.stop_probes();
    }
}

impl fmt::Debug for UpstreamGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
