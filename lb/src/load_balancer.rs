//! The face: start, handle, apply, stop.

mod writer;

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
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
    left::left,
    limit::{ClientLimits, Limit, SharedName},
    limiter::{ClientDenied, Limiter},
    probe::Prober,
    relay::{Downstream, RelayEnd, RelayError, Traffic},
};
use writer::GroupWriter;

/// How often clients that are idle are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// What a load balancer is made from.
#[derive(Clone, Debug, Default)]
pub struct LoadBalancerConfig {
    /// How many connections there may be in all.
    pub connections: Limit,
    /// What each client of [`LoadBalancer::handle`] may use.
    pub client: ClientLimits,
    /// Where connections may go.
    pub groups: Vec<GroupConfig>,
}

/// One change of a running load balancer.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most changes are of groups, and none is kept"
)]
pub enum BalancerChange {
    /// Adds a group, or alters the one of that name.
    PutGroup(GroupConfig),
    /// Removes a group; its open connections go on.
    RemoveGroup(SharedName),
    /// Adds an upstream to a group, or alters the one of that address. Whoever finds upstreams needs to
    /// know of no others, and loses none that somebody else adds meanwhile.
    PutUpstream {
        /// The group.
        group: SharedName,
        /// The upstream.
        upstream: UpstreamConfig,
    },
    /// Removes an upstream from a group, if it is there; its open connections go on.
    RemoveUpstream {
        /// The group.
        group: SharedName,
        /// Where the upstream is.
        upstream: SocketAddr,
    },
    /// How many connections there may be in all from now on.
    Connections(Limit),
    /// What each client of [`LoadBalancer::handle`] may use from now on.
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

/// How a connection ended that reached an upstream.
#[derive(Debug)]
#[non_exhaustive]
pub struct StreamEnd {
    /// Where it went.
    pub upstream: SocketAddr,
    /// Bytes that went to the client.
    pub sent: u64,
    /// Bytes that came from the client.
    pub received: u64,
    /// What ended it.
    pub outcome: StreamOutcome,
}

/// What ended a connection that reached an upstream.
#[derive(Debug)]
pub enum StreamOutcome {
    /// Both sides did.
    Finished,
    /// The client did, and was gone before the upstream did.
    ClientLeft,
    /// It broke.
    Broken(RelayError),
    /// The load balancer stopped, and the deadline came first.
    CutOff,
}

/// Why nothing is probed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeStartError {
    /// It was not called on a tokio runtime, where probes would run.
    #[error("a load balancer is started on a tokio runtime")]
    NoRuntime(#[from] TryCurrentError),
    /// The load balancer was stopped, which is for good.
    #[error("the load balancer was stopped")]
    Stopped,
}

/// Why a stream was turned away, in the order the reasons can arise.
#[derive(Debug, Error)]
pub enum StreamRejection {
    /// The load balancer is stopping.
    #[error("the load balancer is stopping")]
    Stopping,
    /// There are as many connections as there may be.
    #[error("all {limit} connections are open")]
    Full {
        /// How many there may be.
        limit: Limit,
    },
    /// Nobody has configured the group.
    #[error("the group does not exist")]
    UnknownGroup,
    /// The client may not come now.
    #[error(transparent)]
    Denied(#[from] ClientDenied),
    /// The client was gone before it had a place.
    #[error("the client left while it waited")]
    Left,
    /// No upstream could be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// What a connection holds on the load balancer itself: a stay and a claim.
#[derive(Debug)]
struct BalancerSlot {
    _stay: DrainGuard,
    _claim: Claim,
}

impl LoadBalancer {
    /// A load balancer that probes nothing yet, unless a group cannot be as it is configured.
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

    /// Starts to probe, and to forget what is over, on the tokio runtime that calls this.
    ///
    /// Groups that come later are probed there as well. Starting again does nothing. The runtime must have
    /// time and I/O enabled, of which it cannot be asked: probes fail as long as it has not.
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

    /// Waits for the [first verdict](UpstreamGroup::first_verdict) of every group that there is now, and names
    /// those of which there is none in time: within 5 s. Cancel safe.
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

    /// Applies changes in their order, and shows them to new connections all at once. If a group cannot be
    /// as one of them says, none is applied.
    ///
    /// A group that is altered shows its own change a moment earlier, upstream by upstream. Any thread may call this,
    /// before and after [`LoadBalancer::start`].
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

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<Arc<UpstreamGroup>> {
        self.snapshot.load().groups.get(name).map(Arc::clone)
    }

    /// Every group, in no particular order.
    pub fn groups(&self) -> Vec<Arc<UpstreamGroup>> {
        self.snapshot
            .load()
            .groups
            .values()
            .map(Arc::clone)
            .collect()
    }

    /// How many streams are being handled.
    pub fn open(&self) -> u32 {
        self.open.open()
    }

    /// Who decides how many connections a client may have.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Counts one more connection of `client`, if its limits allow it.
    pub fn admit(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        self.limiter.admit(client, limits)
    }

    /// The same, and waits for as long as the limits say for a place of the client's. Cancel safe. See
    /// [`Limiter::admit_within`].
    pub async fn admit_within(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        self.limiter.admit_within(client, limits).await
    }

    /// Takes a stream from its arrival to its end.
    ///
    /// A client that has all of its connections open waits for as long as its limits say. A stream that is turned
    /// away is aborted. Dropping the future aborts both sides and returns
    /// everything that was counted.
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

    /// Turns new streams away, waits for the others, cuts off those that are left after
    /// `deadline`, and ends the probes.
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

    /// Counts a connection of the client, or has it wait. A load balancer that stops lets nobody wait.
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
    /// A load balancer without limits and groups.
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

/// A stream that is aborted on drop, unless its connection was whole.
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
