//! Live state of one group: the health and the connections of its upstreams.

mod change;
mod first_verdict;
mod probe_tasks;
mod report;
mod state;
mod status;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::cause::FailureCause;
use crate::config_error::ConfigError;
use crate::group_config::GroupConfig;
use crate::health::{Observation, UpstreamHealth};
use crate::limit::SharedName;
use crate::no_lease::NoLease;
use first_verdict::FirstVerdict;
use probe_tasks::ProbeTasks;
use report::GroupHealth;
use state::GroupState;

pub use status::UpstreamStatus;

/// A named set of upstreams, with their health, their connections and their probes.
///
/// Its configuration changes under live connections by difference: upstreams that stay keep their
/// counts, their health and the phase of their probes, and an upstream that is removed and added
/// again while it has connections keeps counting them.
///
/// ```
/// use std::sync::Arc;
///
/// use lb::{GroupConfig, HealthConfig, NoLease, ProbeKind, UpstreamConfig, UpstreamGroup};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let upstreams = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|ip| UpstreamConfig::new((ip, 80).into()));
/// let group = Arc::new(UpstreamGroup::alone(GroupConfig {
///     health: HealthConfig { check: ProbeKind::Off, ..HealthConfig::default() },
///     ..GroupConfig::new("web", upstreams.into())
/// })?);
/// let first = group.lease(&[])?;
/// let second = group.lease(&[])?;
/// assert_ne!(first.address(), second.address(), "each has the fewest connections in turn");
/// let tried = [first.address(), second.address()];
/// assert_eq!(group.lease(&tried).unwrap_err(), NoLease::AllTried);
/// drop((first, second));
/// assert_eq!(group.open(), 0);
/// # Ok(())
/// # }
/// ```
pub struct UpstreamGroup {
    name: SharedName,
    config: ArcSwap<GroupConfig>,
    state: Mutex<GroupState>,
    first_verdict: FirstVerdict,
    probes: ProbeTasks,
}

impl UpstreamGroup {
    /// Makes a group outside a load balancer, whose upstreams are not probed. They are unknown, or
    /// up if the configuration has no probes.
    ///
    /// # Errors
    ///
    /// The configuration does not pass [`GroupConfig::check`].
    pub fn alone(config: GroupConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self::new(config))
    }

    /// Makes a group from a checked configuration. Its upstreams are unknown, or up if the
    /// configuration has no probes.
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
            probes: ProbeTasks::default(),
        }
    }

    /// Returns the name of the group.
    pub fn name(&self) -> &SharedName {
        &self.name
    }

    /// Returns the current configuration.
    pub fn config(&self) -> Arc<GroupConfig> {
        self.config.load_full()
    }

    /// Returns the number of connections of the group, those on removed upstreams included.
    pub fn open(&self) -> u32 {
        self.state.lock().balancer.open()
    }

    /// Returns the current state of each upstream, in the order of the configuration.
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

    /// Takes over the [`UpstreamHealth`] of an upstream from another process, if it is unknown
    /// here. Probes go on from there.
    pub fn assume(&self, upstream: SocketAddr, health: UpstreamHealth) {
        let mut book = self.state.lock();
        book.observe(upstream, |condition, _| condition.or(health));
        self.first_verdict.settle(&book);
    }

    /// Chooses an upstream and counts a connection to it until [`UpstreamGroup::give_back`]. The
    /// token is there if the connection is to end when the upstream goes down.
    pub(crate) fn choose(
        &self,
        tried: &[SocketAddr],
    ) -> Result<(SocketAddr, Option<CancellationToken>), NoLease> {
        self.state.lock().choose(tried)
    }

    /// Counts a connection of another process until [`UpstreamGroup::give_back`].
    pub(crate) fn count_adopted(&self, upstream: SocketAddr) {
        self.state.lock().balancer.adopt(upstream);
    }

    /// Counts the end of a connection.
    pub(crate) fn give_back(&self, address: SocketAddr) {
        let vacated = self.state.lock().give_back(address);
        report::vacated(&self.name, vacated);
    }

    /// Notes the result of a probe.
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

    /// Notes the result of a dial for a client.
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

    /// Notes the result of a relay.
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

    /// Notes that the upstream ended a connection at once and without a byte.
    pub(crate) fn fell_short(&self, address: SocketAddr, cause: FailureCause) {
        let mut book = self.state.lock();
        let moved = book.suspect(address, |condition, health| {
            condition.dialed(Observation::Failed, health.thresholds())
        });
        book.count_failed(address);
        book.explain(address, Some(cause));
        self.report(book, address, moved);
    }

    /// Waits for the first verdict of the probes: an upstream takes connections, or all that could
    /// are known to be down. Returns true if there is a verdict, false if the time is over.
    ///
    /// A verdict is awaited when a group begins to be probed and when it gets upstreams that are
    /// yet unknown, for at most 5 s from then on, however often this is called. Cancel safe.
    pub async fn first_verdict(&self) -> bool {
        self.first_verdict.wait(&self.state).await
    }

    /// Notes that upstreams are probed from now on, so that a verdict can be awaited.
    pub(crate) fn begin_probing(&self) {
        let mut book = self.state.lock();
        book.begin_probing();
        self.first_verdict.settle(&book);
    }

    /// Returns the health of the upstream, or `None` if it is not in the group.
    pub(crate) fn health(&self, address: SocketAddr) -> Option<UpstreamHealth> {
        self.state.lock().health(address)
    }

    /// Stops the probes of a group that is removed. Its connections go on.
    pub(crate) fn retire(&self) {
        let vacated = self.state.lock().retire();
        self.probes.stop_all();
        report::vacated(&self.name, vacated);
    }

    /// Returns the tasks that probe the group's upstreams.
    pub(crate) fn probes(&self) -> &ProbeTasks {
        &self.probes
    }

    /// Logs that an upstream went up or down, if it did, after the lock was released.
    fn report(
        &self,
        book: MutexGuard<'_, GroupState>,
        upstream: SocketAddr,
        moved: Option<(UpstreamHealth, UpstreamHealth)>,
    ) {
        let Some(moved) = moved else {
            return;
        };
        self.first_verdict.settle(&book);
        let cause = book.cause(upstream).cloned();
        let left = GroupHealth {
            healthy: book.balancer.serving(),
            upstreams: book.balancer.ready(),
            is_without: !book.balancer.serves() && !book.is_undecided(),
        };
        drop(book);
        report::moved(&self.name, upstream, moved, cause.as_ref(), left);
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
