//! The state that the workers of a gateway share.

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use ebpf::{BanTable, WorkerLoads};
use host::heartbeat::WorkerHeartbeats;
use lb::{Drain, LoadBalancer};
use policy::{Policy, PolicyChange};
use tls::TlsSettings;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_record::Recorder;
use crate::connection_table::ConnectionTable;
use crate::limits::PreAuthLimits;
use crate::loaded_policy::LoadedPolicy;
use crate::snapshot::GatewaySnapshot;
use crate::source_bans::SourceBans;
use crate::standby::StandbyState;

/// Owner of the connections that are queued at the listeners when accepting stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuedConnections {
    /// This process: it accepts them, and they are drained like all others.
    Ours,
    /// The other process that has the same listeners; it accepts them.
    Theirs,
}

/// The state that the workers of a gateway share: the [`GatewaySnapshot`] in force, the connections
/// and their limits, and the gateway's end.
#[derive(Debug)]
pub struct SharedState {
    snapshot: ArcSwap<GatewaySnapshot>,
    balancer: LoadBalancer,
    limits: PreAuthLimits,
    connections: Arc<ConnectionTable>,
    recorder: Arc<Recorder>,
    worker_loads: OnceLock<Arc<WorkerLoads>>,
    standby: StandbyState,
    bans: SourceBans,
    closing: CancellationToken,
    /// True if the connections that are still queued at the end belong to another process.
    leaves_queues: AtomicBool,
    acceptors: TaskTracker,
    drain: Drain,
    heartbeats: WorkerHeartbeats,
}

impl SharedState {
    /// Puts a policy in force. Its generation is the one after `generation`.
    pub(crate) fn new(loaded: LoadedPolicy, recorder: Arc<Recorder>, generation: u64) -> Self {
        let (policy, tls) = loaded.into_parts();
        let balancer = LoadBalancer::default();
        let snapshot = GatewaySnapshot::first(policy, tls, &balancer);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot.after_generation(generation)),
            balancer,
            limits: PreAuthLimits::default(),
            connections: Arc::new(ConnectionTable::default()),
            recorder,
            worker_loads: OnceLock::new(),
            standby: StandbyState::default(),
            bans: SourceBans::default(),
            closing: CancellationToken::new(),
            leaves_queues: AtomicBool::new(false),
            acceptors: TaskTracker::new(),
            drain: Drain::new(),
            heartbeats: WorkerHeartbeats::default(),
        }
    }

    /// Puts the next policy in force. Clients that wait are notified, and groups that no client can
    /// be granted any more are removed.
    pub(crate) fn replace_policy(
        &self,
        policy: Policy,
        changes: &[PolicyChange],
        tls: Arc<TlsSettings>,
    ) -> Arc<GatewaySnapshot> {
        let before = self.snapshot();
        let next = Arc::new(before.next(policy, changes, tls, &self.balancer));
        self.snapshot.store(Arc::clone(&next));
        self.connections.notify_changed();
        GatewaySnapshot::retire(changes, &self.balancer);
        next
    }

    /// Returns the [`GatewaySnapshot`] that is in force now.
    pub fn snapshot(&self) -> Arc<GatewaySnapshot> {
        self.snapshot.load_full()
    }

    /// Returns the [`LoadBalancer`], which holds the live state of all groups.
    pub fn balancer(&self) -> &LoadBalancer {
        &self.balancer
    }

    /// Returns the [`PreAuthLimits`]: the limits before authentication.
    pub fn limits(&self) -> &PreAuthLimits {
        &self.limits
    }

    /// Returns the [`ConnectionTable`]: the connections that hold a permit.
    pub fn connections(&self) -> &Arc<ConnectionTable> {
        &self.connections
    }

    /// Returns the [`Recorder`] of access records.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Returns the [`Drain`], which ends the gateway's connections.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Returns the [`WorkerHeartbeats`].
    pub fn heartbeats(&self) -> &WorkerHeartbeats {
        &self.heartbeats
    }

    /// Notes that steering is active: the workers' loads, which the kernel reads, and the table of
    /// banned sources.
    pub(crate) fn begin_steering(&self, worker_loads: Arc<WorkerLoads>, bans: BanTable) {
        self.worker_loads.get_or_init(|| worker_loads);
        self.bans.begin(bans);
    }

    /// Returns the loads of the workers, which the kernel reads; `None` if steering is not active.
    pub(crate) fn worker_loads(&self) -> Option<&Arc<WorkerLoads>> {
        self.worker_loads.get()
    }

    /// Returns the [`StandbyState`].
    pub(crate) fn standby(&self) -> &StandbyState {
        &self.standby
    }

    /// Counts a failed handshake, and bans its source if it has reached the number that the
    /// policy's rule allows.
    pub(crate) fn handshake_failed(&self, source: IpAddr) {
        let snapshot = self.snapshot();
        if let Some(rule) = &snapshot.policy().gateway().ban {
            self.bans
                .handshake_failed(source, rule, &self.recorder, Instant::now());
        }
    }

    /// Stops accepting. Connections that are queued already are accepted if they are this
    /// process's.
    pub(crate) fn stop_accepting(&self, queued: QueuedConnections) {
        self.leaves_queues
            .store(queued == QueuedConnections::Theirs, Relaxed);
        self.closing.cancel();
    }

    /// Returns the token that is cancelled when the gateway stops accepting.
    pub(crate) fn closing_token(&self) -> &CancellationToken {
        &self.closing
    }

    /// Waits until the gateway stops accepting. Cancel safe.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Returns true if the connections that are queued at the listeners belong to another process
    /// ([`QueuedConnections::Theirs`]).
    pub(crate) fn leaves_queued_connections(&self) -> bool {
        self.leaves_queues.load(Relaxed)
    }

    /// Returns the tracker of the accept loops.
    pub fn acceptors(&self) -> &TaskTracker {
        &self.acceptors
    }
}
