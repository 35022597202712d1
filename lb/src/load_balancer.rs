//! The main interface of the crate: start, handle, apply, stop.

mod change;
mod outcome;
mod stream;
mod writer;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client_slots::ClientSlot;
use crate::config_error::ConfigError;
use crate::counter::Counter;
use crate::drain::{Drain, Drained};
use crate::group::UpstreamGroup;
use crate::limit::{ClientLimits, Limit, SharedName};
use crate::limiter::{ClientDenied, Limiter};
use crate::probe::Prober;
use writer::GroupWriter;

pub use change::{BalancerChange, LoadBalancerConfig};
pub use outcome::{ProbeStartError, StreamEnd, StreamOutcome, StreamRejection};

/// Interval at which idle clients are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// Balances streams over groups of upstreams.
///
/// Connections read one immutable snapshot and wait for no change. Changes are applied one at a
/// time, and each costs what it changes, however many groups there are.
///
/// ```
/// use std::time::Duration;
///
/// use lb::{BalancerChange, Drained, GroupConfig, LoadBalancer, UpstreamConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let balancer = LoadBalancer::default();
/// balancer.start()?;
/// let upstream = UpstreamConfig::new(([127, 0, 0, 1], 9).into());
/// balancer.apply([BalancerChange::PutGroup(GroupConfig::new("ledger", vec![upstream]))])?;
/// let group = balancer.group("ledger").expect("it was added");
/// assert_eq!(group.upstreams()[0].address, upstream.address);
/// assert_eq!(balancer.stop(Duration::from_secs(10)).await, Drained::Clean);
/// # Ok(())
/// # }
/// ```
///
/// The [crate's documentation](crate) has an example with a stream.
#[derive(Debug)]
pub struct LoadBalancer {
    snapshot: ArcSwap<BalancerSnapshot>,
    writer: Mutex<GroupWriter>,
    open: Arc<Counter>,
    limiter: Arc<Limiter>,
    drain: Drain,
    background: TaskTracker,
    stopped: CancellationToken,
}

#[derive(Debug, Clone)]
struct BalancerSnapshot {
    groups: imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
    connections: Limit,
    client: ClientLimits,
}

impl LoadBalancer {
    /// Makes a load balancer that probes nothing yet.
    ///
    /// # Errors
    ///
    /// The configuration of a group does not pass
    /// [`GroupConfig::check`](crate::GroupConfig::check).
    pub fn new(config: LoadBalancerConfig) -> Result<Self, ConfigError> {
        let LoadBalancerConfig {
            connections,
            client,
            groups,
        } = config;
        let snapshot = BalancerSnapshot {
            groups: imbl::HashMap::new(),
            connections,
            client,
        };
        let balancer = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            writer: Mutex::default(),
            open: Arc::new(Counter::new()),
            limiter: Arc::new(Limiter::default()),
            drain: Drain::new(),
            background: TaskTracker::new(),
            stopped: CancellationToken::new(),
        };
        balancer.apply(groups.into_iter().map(BalancerChange::PutGroup))?;
        Ok(balancer)
    }

    /// Starts the probes, and the task that forgets idle clients, on the tokio runtime of the
    /// caller.
    ///
    /// Groups that are added later are probed there as well. A second call does nothing. The
    /// runtime must have time and I/O enabled, which cannot be checked: without them every probe
    /// fails.
    ///
    /// # Errors
    ///
    /// There is no runtime, or the load balancer was stopped.
    pub fn start(&self) -> Result<(), ProbeStartError> {
        let mut writer = self.writer.lock();
        if writer.prober.is_some() {
            return Ok(());
        }
        if self.drain.is_begun() {
            return Err(ProbeStartError::Stopped);
        }
        let prober = Prober::new(
            Handle::try_current()?,
            self.background.clone(),
            self.stopped.clone(),
        );
        self.snapshot
            .load()
            .groups
            .values()
            .for_each(|group| group.probe(&prober));
        writer.prober = Some(prober);
        let (limiter, stopped) = (Arc::downgrade(&self.limiter), self.stopped.clone());
        self.background.spawn(async move {
            stopped
                .run_until_cancelled(forget_idle_clients(limiter))
                .await;
        });
        Ok(())
    }

    /// Waits for the [first verdict](UpstreamGroup::first_verdict) of every group that there is
    /// now, for 5 s at most. Returns the sorted names of the groups that have none by then. Cancel
    /// safe.
    pub async fn first_verdicts(&self) -> Vec<SharedName> {
        let mut undecided = Vec::new();
        for group in self.groups() {
            if !group.first_verdict().await {
                undecided.push(Arc::clone(group.name()));
            }
        }
        undecided.sort_unstable();
        undecided
    }

    /// Applies changes in their order, and shows them to new connections all at once.
    ///
    /// A group that is altered shows its own change a moment earlier, upstream by upstream. Any
    /// thread may call this, before and after [`LoadBalancer::start`].
    ///
    /// # Errors
    ///
    /// A configuration of a group is not valid, or a change of an upstream names a group that does
    /// not exist. No change is applied then.
    pub fn apply(
        &self,
        changes: impl IntoIterator<Item = BalancerChange>,
    ) -> Result<(), ConfigError> {
        let changes: Vec<BalancerChange> = changes.into_iter().collect();
        changes.iter().try_for_each(BalancerChange::check)?;
        let mut writer = self.writer.lock();
        let mut next = BalancerSnapshot::clone(&self.snapshot.load());
        writer::check_groups(&changes, &next.groups)?;
        for change in changes {
            match change {
                BalancerChange::PutGroup(config) => writer.put(&mut next.groups, config),
                BalancerChange::RemoveGroup(name) => writer.remove(&mut next.groups, &name),
                BalancerChange::PutUpstream { group, upstream } => {
                    writer.put_upstream(&next.groups, &group, upstream);
                }
                BalancerChange::RemoveUpstream { group, upstream } => {
                    writer.remove_upstream(&next.groups, &group, upstream);
                }
                BalancerChange::Connections(limit) => next.connections = limit,
                BalancerChange::Client(limits) => next.client = limits,
            }
        }
        self.snapshot.store(Arc::new(next));
        Ok(())
    }

    /// Returns the group of that name.
    pub fn group(&self, name: &str) -> Option<Arc<UpstreamGroup>> {
        self.snapshot.load().groups.get(name).map(Arc::clone)
    }

    /// Returns every group, in no particular order.
    pub fn groups(&self) -> Vec<Arc<UpstreamGroup>> {
        self.snapshot
            .load()
            .groups
            .values()
            .map(Arc::clone)
            .collect()
    }

    /// Returns the number of streams that are being handled.
    pub fn open(&self) -> u32 {
        self.open.open()
    }

    /// Returns the limiter of the clients' connections.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Counts one more connection of `client`, if its limits allow it. See [`Limiter::admit`].
    ///
    /// # Errors
    ///
    /// Those of [`Limiter::admit`].
    pub fn admit(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        self.limiter.admit(client, limits)
    }

    /// Counts one more connection of `client`, and waits for up to `limits.wait` for a slot. Cancel
    /// safe. See [`Limiter::admit_within`].
    ///
    /// # Errors
    ///
    /// Those of [`Limiter::admit_within`].
    pub async fn admit_within(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        self.limiter.admit_within(client, limits).await
    }

    /// Refuses new streams, waits for the others, cuts off those that are left after `deadline`,
    /// and ends the probes.
    pub async fn stop(&self, deadline: Duration) -> Drained {
        let drained = self.drain.finish(deadline).await;
        self.stopped.cancel();
        self.background.close();
        self.background.wait().await;
        drained
    }
}

impl Default for LoadBalancer {
    /// Makes a load balancer without limits and groups.
    fn default() -> Self {
        Self::new(LoadBalancerConfig::default()).expect("without groups nothing can be wrong")
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a task that wakes up now and then"
)]
async fn forget_idle_clients(limiter: Weak<Limiter>) {
    loop {
        sleep(HOUSEKEEPING).await;
        let Some(limiter) = limiter.upgrade() else {
            return;
        };
        limiter.forget_idle();
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests have clients and upstreams"
)]
mod tests;
