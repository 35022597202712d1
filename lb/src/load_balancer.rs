//! The main interface of the crate: start, handle, apply, stop.

mod writer;

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use peer::{Downstream, left};
use thiserror::Error;
use tokio::{
    runtime::{Handle, TryCurrentError},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client_slots::ClientSlot,
    config_error::ConfigError,
    counter::{Claim, Counter},
    dial::{DialError, DialReport, Dialed, dial},
    drain::{Drain, DrainGuard, Drained},
    group::UpstreamGroup,
    group_config::{GroupConfig, UpstreamConfig},
    limit::{ClientLimits, Limit, SharedName},
    limiter::{ClientDenied, Limiter},
    probe::Prober,
    relay::{RelayEnd, RelayError, Traffic},
};
use writer::GroupWriter;

/// Interval at which idle clients are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// Configuration of a [`LoadBalancer`].
#[derive(Clone, Debug, Default)]
pub struct LoadBalancerConfig {
    /// Limit of all connections together.
    pub connections: Limit,
    /// Limits of each client of [`LoadBalancer::handle`].
    pub client: ClientLimits,
    /// Groups of upstreams.
    pub groups: Vec<GroupConfig>,
}

/// One change of a running load balancer.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most changes are of groups, and none is kept"
)]
pub enum BalancerChange {
    /// Adds a group, or alters the one of that [name](GroupConfig::name).
    PutGroup(GroupConfig),
    /// Removes a group; its open connections go on.
    RemoveGroup(SharedName),
    /// Adds an upstream to a group, or alters the one of that address. A source of upstreams need
    /// not know the others of the group, and removes none that another source adds meanwhile.
    PutUpstream {
        /// Name of the group.
        group: SharedName,
        /// Configuration of the upstream.
        upstream: UpstreamConfig,
    },
    /// Removes an upstream from a group, if it is there; its open connections go on.
    RemoveUpstream {
        /// Name of the group.
        group: SharedName,
        /// Address of the upstream.
        upstream: SocketAddr,
    },
    /// Replaces the limit of all connections together.
    Connections(Limit),
    /// Replaces the limits of each client of [`LoadBalancer::handle`].
    Client(ClientLimits),
}

/// Balances streams over groups of upstreams.
///
/// Connections read one immutable snapshot and wait for no change. Changes are applied one at a
/// time, and each costs what it changes, however many groups there are.
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

#[derive(Clone, Debug)]
struct BalancerSnapshot {
    groups: imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
    connections: Limit,
    client: ClientLimits,
}

/// Result of a connection that reached an upstream.
#[derive(Debug)]
#[non_exhaustive]
pub struct StreamEnd {
    /// Address of the upstream.
    pub upstream: SocketAddr,
    /// Bytes that were written to the client.
    pub sent: u64,
    /// Bytes of the client that were written to the upstream.
    pub received: u64,
    /// Reason for the end.
    pub outcome: StreamOutcome,
}

/// Reason for the end of a connection that reached an upstream.
#[derive(Debug)]
pub enum StreamOutcome {
    /// Both sides ended their streams.
    Finished,
    /// The client ended its stream, and was gone before the upstream ended its own.
    ClientLeft,
    /// The relay broke off.
    Broken(RelayError),
    /// The load balancer stopped, and the connection was open at the deadline.
    CutOff,
}

/// Error of [`LoadBalancer::start`]: nothing is probed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeStartError {
    /// The call was not made on a tokio runtime, where probes would run.
    #[error("no tokio runtime; start the load balancer on one")]
    NoRuntime(#[from] TryCurrentError),
    /// The load balancer was stopped, and cannot be started again.
    #[error("the load balancer was stopped")]
    Stopped,
}

/// Error of a stream that was refused, in the order in which the reasons are checked.
#[derive(Debug, Error)]
pub enum StreamRejection {
    /// The load balancer is stopping.
    #[error("the load balancer is stopping")]
    Stopping,
    /// As many connections are open as [`LoadBalancerConfig::connections`] allows.
    #[error("the limit of {limit} connections is reached")]
    Full {
        /// Limit of all connections together.
        limit: Limit,
    },
    /// No group of that name is configured.
    #[error("the group does not exist")]
    UnknownGroup,
    /// The limits of the client do not allow the connection.
    #[error(transparent)]
    Denied(#[from] ClientDenied),
    /// The client was gone before its connection was admitted.
    #[error("the client disconnected while it waited")]
    Left,
    /// No upstream could be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// Counts of one connection on the load balancer itself: in the drain and in all connections.
#[derive(Debug)]
struct BalancerSlot {
    _stay: DrainGuard,
    _claim: Claim,
}

impl LoadBalancer {
    /// Makes a load balancer that probes nothing yet.
    ///
    /// # Errors
    ///
    /// The configuration of a group does not pass [`GroupConfig::check`].
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
    pub fn admit(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        self.limiter.admit(client, limits)
    }

    /// Counts one more connection of `client`, and waits for up to `limits.wait` for a slot. Cancel
    /// safe. See [`Limiter::admit_within`].
    pub async fn admit_within(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        self.limiter.admit_within(client, limits).await
    }

    /// Handles a stream from its arrival to its end.
    ///
    /// A client that has all of its connections open waits for as long as its limits say. A stream
    /// that is refused is aborted. Dropping the future aborts both sides and returns everything
    /// that was counted.
    pub async fn handle<S: Downstream>(
        &self,
        client: &str,
        group: &str,
        stream: S,
    ) -> Result<StreamEnd, StreamRejection> {
        let mut downstream = StreamAbortGuard {
            stream,
            armed: true,
        };
        let _place = self.take_slot()?;
        let group = self.known(group)?;
        let _admission = self.admitted(client, &mut downstream.stream).await?;
        let mut dialed = self.dial(&group).await?;
        let traffic = Traffic::new();
        let relayed = dialed.relay(&mut downstream.stream, &traffic);
        let outcome = match self.drain.cutoff().run_until_cancelled(relayed).await {
            Some(Ok(RelayEnd::Both)) => {
                downstream.armed = false;
                StreamOutcome::Finished
            }
            Some(Ok(RelayEnd::ClientLeft)) => StreamOutcome::ClientLeft,
            Some(Err(error)) => StreamOutcome::Broken(error),
            None => StreamOutcome::CutOff,
        };
        let (sent, received) = (traffic.sent(), traffic.received());
        Ok(StreamEnd {
            upstream: dialed.lease.address(),
            sent,
            received,
            outcome,
        })
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

    async fn dial(&self, group: &Arc<UpstreamGroup>) -> Result<Dialed, StreamRejection> {
        let mut report = DialReport::default();
        let dialed = self
            .drain
            .cutoff()
            .run_until_cancelled(dial(group, &mut report))
            .await;
        Ok(dialed.ok_or(StreamRejection::Stopping)??)
    }

    fn take_slot(&self) -> Result<BalancerSlot, StreamRejection> {
        let stay = self.drain.enter().ok_or(StreamRejection::Stopping)?;
        let limit = self.snapshot.load().connections;
        let claim = self
            .open
            .claim(limit)
            .ok_or(StreamRejection::Full { limit })?;
        Ok(BalancerSlot {
            _stay: stay,
            _claim: claim,
        })
    }

    fn known(&self, group: &str) -> Result<Arc<UpstreamGroup>, StreamRejection> {
        let snapshot = self.snapshot.load();
        let group = snapshot.groups.get(group);
        group.map(Arc::clone).ok_or(StreamRejection::UnknownGroup)
    }

    /// Counts a connection of the client, or lets it wait until it is admitted, leaves, or the load
    /// balancer stops.
    async fn admitted<S: Downstream>(
        &self,
        client: &str,
        stream: &mut S,
    ) -> Result<ClientSlot, StreamRejection> {
        let (client, limits) = (client.into(), self.snapshot.load().client);
        tokio::select! {
            biased;
            admitted = self.admit_within(&client, &limits) => Ok(admitted?),
            () = left(stream) => Err(StreamRejection::Left),
            () = self.drain.begun() => Err(StreamRejection::Stopping),
        }
    }
}

impl BalancerChange {
    fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::PutGroup(config) => config.check(),
            Self::RemoveGroup(_)
            | Self::PutUpstream { .. }
            | Self::RemoveUpstream { .. }
            | Self::Connections(_)
            | Self::Client(_) => Ok(()),
        }
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

async fn forget_idle_clients(limiter: Weak<Limiter>) {
    loop {
        sleep(HOUSEKEEPING).await;
        let Some(limiter) = limiter.upgrade() else {
            return;
        };
        limiter.forget_idle();
    }
}

/// A stream that is aborted on drop, unless both sides ended in order.
struct StreamAbortGuard<S: Downstream> {
    stream: S,
    armed: bool,
}

impl<S: Downstream> Drop for StreamAbortGuard<S> {
    fn drop(&mut self) {
        if self.armed {
            self.stream.abort();
        }
    }
}

#[cfg(test)]
mod tests;
