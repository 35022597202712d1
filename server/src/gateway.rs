//! The gateway: what its workers share, its start, its changes and its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ebpf::{BanTable, PinDir, Role, WorkerLoads};
use lb::{Drain, LoadBalancer};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_record::Recorder;
use crate::address::network;
use crate::affinity;
use crate::connection_table::ConnectionTable;
use crate::handshake_failures::HandshakeFailures;
use crate::heartbeat::WorkerHeartbeats;
use crate::inherited_listeners::InheritedListeners;
use crate::limits::PreAuthLimits;
use crate::listeners::{BoundListeners, ListenError, Listeners};
use crate::loaded_policy::LoadedPolicy;
use crate::policy::{Policy, WorkerAffinity};
use crate::snapshot::GatewaySnapshot;
use crate::steering::{self, ActiveSteering, SteeringUnavailable};
use crate::tls::TlsSettings;
use crate::worker;

mod admission;
mod handover;
mod reload;
#[cfg(test)]
mod simulation;
mod standby;
mod workers;

pub use reload::{ApplyError, ReloadReport};
pub use workers::{QueuedConnections, WorkerThreads};

/// Capacity of the queue of listeners that are assigned to one worker.
const MOST_ASSIGNED: usize = 1024;
/// Time limit for accepting the queued connections at the end: 5 seconds.
const CLOSE: Duration = Duration::from_secs(5);
/// Minimum interval between two reports of a failing accept.
const REPORT_ACCEPT: Duration = Duration::from_secs(1);

/// Reason why a gateway cannot start.
#[derive(Debug, Error)]
pub enum GatewayStartError {
    /// An address of the policy cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Steering is required, but is not available.
    #[error("steering is required, but not available: {0}")]
    SteeringUnavailable(#[from] SteeringUnavailable),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// The state that all workers of a gateway share: the [`GatewaySnapshot`] in force, the
/// connections, limits, listeners and steering.
#[derive(Debug)]
pub struct Gateway {
    snapshot: ArcSwap<GatewaySnapshot>,
    balancer: LoadBalancer,
    limits: PreAuthLimits,
    connections: Arc<ConnectionTable>,
    recorder: Arc<Recorder>,
    closing: CancellationToken,
    listeners: Mutex<Listeners>,
    steering: Mutex<Option<ActiveSteering>>,
    worker_loads: OnceLock<Arc<WorkerLoads>>,
    standby: standby::StandbyState,
    bans: OnceLock<BanTable>,
    handshake_failures: HandshakeFailures,
    acceptors: TaskTracker,
    drain: Drain,
    heartbeats: WorkerHeartbeats,
    /// True if the service manager keeps the listeners when this process ends.
    leaves_listeners: AtomicBool,
    /// True if the connections that are still queued at the end belong to another process.
    leaves_queues: AtomicBool,
    accept_failures: AtomicU64,
    accept_reported: Mutex<Option<Instant>>,
}

impl Gateway {
    /// Creates a gateway whose policy is in force, with generation 1. It has no listeners yet.
    pub fn new(loaded: LoadedPolicy, recorder: Recorder) -> Arc<Self> {
        Self::after_generation(loaded, recorder, 0)
    }

    /// Does the same as [`Gateway::new`], but the first generation is the one after `generation`,
    /// that of another process.
    pub fn after_generation(
        loaded: LoadedPolicy,
        recorder: Recorder,
        generation: u64,
    ) -> Arc<Self> {
        let (policy, tls) = loaded.into_parts();
        Self::with(policy, tls, Arc::new(recorder), generation)
    }

    fn with(
        policy: Policy,
        tls: Arc<TlsSettings>,
        recorder: Arc<Recorder>,
        generation: u64,
    ) -> Arc<Self> {
        let balancer = LoadBalancer::default();
        let snapshot = GatewaySnapshot::first(policy, tls, &balancer);
        let snapshot = snapshot.after_generation(generation);
        let closing = CancellationToken::new();
        Arc::new(Self {
            listeners: Mutex::new(Listeners::new(closing.clone())),
            steering: Mutex::new(None),
            worker_loads: OnceLock::new(),
            standby: standby::StandbyState::default(),
            bans: OnceLock::new(),
            handshake_failures: HandshakeFailures::default(),
            closing,
            snapshot: ArcSwap::from_pointee(snapshot),
            balancer,
            limits: PreAuthLimits::default(),
            connections: Arc::new(ConnectionTable::default()),
            recorder,
            acceptors: TaskTracker::new(),
            drain: Drain::new(),
            heartbeats: WorkerHeartbeats::default(),
            leaves_listeners: AtomicBool::new(false),
            leaves_queues: AtomicBool::new(false),
            accept_failures: AtomicU64::new(0),
            accept_reported: Mutex::new(None),
        })
    }

    /// Starts the workers and binds the policy's addresses, except those of `inherited` listeners,
    /// but accepts no clients yet. A standby binds no addresses: they would be served beside the
    /// primary's.
    ///
    /// # Errors
    ///
    /// An address cannot be bound (this may be called again then), steering is required but not
    /// available, or a thread cannot be started.
    pub fn prepare(
        self: &Arc<Self>,
        workers: NonZeroUsize,
        instance: Option<&(PinDir, Role)>,
        inherited: &mut InheritedListeners,
    ) -> Result<PreparedGateway, GatewayStartError> {
        let mut open_listeners = self.listeners.lock();
        let mut queues = Vec::new();
        for _ in 0..workers.get() {
            let (worker, queue) = mpsc::channel(MOST_ASSIGNED);
            open_listeners.add_worker(worker);
            queues.push(queue);
        }
        let snapshot = self.snapshot();
        if let Some((_, Role::Standby)) = instance {
            open_listeners.disable();
            self.standby.begin();
        }
        let bound = open_listeners.bind(snapshot.policy().gateway(), inherited);
        let bound = bound.inspect_err(|_| open_listeners.dismiss())?;
        let steered = match instance {
            Some((pin_dir, role)) => {
                let policy = snapshot.policy();
                steering::prepare(pin_dir, *role, policy, workers.get(), inherited)?
            }
            None => None,
        };
        let processors = match snapshot.policy().gateway().workers.affinity {
            WorkerAffinity::Off => Vec::new(),
            WorkerAffinity::On => affinity::processors().map_err(GatewayStartError::Thread)?,
        };
        let start = |(number, queue)| {
            // Workers that outnumber the processors share them evenly.
            let processor = processors.iter().cycle().nth(number).copied();
            worker::start(number, processor, Arc::clone(self), queue)
        };
        let threads = queues
            .into_iter()
            .enumerate()
            .map(start)
            .collect::<Result<_, _>>();
        Ok(PreparedGateway {
            bound,
            steered,
            workers: WorkerThreads::new(threads.map_err(GatewayStartError::Thread)?),
        })
    }

    /// Takes the gateway's role in the kernel, if it has one, and begins to accept clients.
    ///
    /// # Errors
    ///
    /// Steering is required but not available, or its table of bans cannot be opened.
    pub fn open(&self, prepared: PreparedGateway) -> Result<WorkerThreads, GatewayStartError> {
        let PreparedGateway {
            bound,
            steered,
            workers,
        } = prepared;
        let snapshot = self.snapshot();
        let steered = match steered {
            Some(steered) => {
                let begun = steered.begin(workers.len());
                begun.inspect_err(|_| self.end_workers())?
            }
            None => None,
        };
        let mut open_listeners = self.listeners.lock();
        if let Some((mut steered, listeners)) = steered {
            self.worker_loads.get_or_init(|| steered.worker_loads());
            let bans = steered.bans().map_err(SteeringUnavailable::from);
            let bans = bans.inspect_err(|_| self.end_workers())?;
            self.bans.get_or_init(|| bans);
            open_listeners.open_steered(listeners);
            steered.apply(snapshot.policy());
            *self.steering.lock() = Some(steered);
        } else if snapshot.policy().gateway().ban.is_some() {
            tracing::warn!("gateway.ban has no effect: steering is not active");
        }
        open_listeners.open(bound, &snapshot.policy().gateway().listen);
        Ok(workers)
    }

    /// Ends the workers of a gateway that does not open.
    fn end_workers(&self) {
        self.closing.cancel();
        self.drain.begin();
    }

    /// Returns the addresses that the gateway listens on, with real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.lock().addresses()
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

    /// Stops accepting and begins the drain. Queued connections are accepted before, unless
    /// `queued` says that they belong to another process; that takes at most 5 seconds. Cancel
    /// safe: [`Gateway::close_listeners`] does the rest at once.
    pub async fn close(&self, queued: QueuedConnections) {
        if let Some(steered) = self.steering.lock().as_mut()
            && !self.leaves_listeners.load(Relaxed)
        {
            steered.retire();
        }
        self.leaves_queues
            .store(queued == QueuedConnections::Theirs, Relaxed);
        self.closing.cancel();
        // A reload must not open a listener that no worker accepts on.
        self.listeners.lock().disable();
        self.acceptors.close();
        // What is left of them is bounded by the kernel's queues. A worker that hangs must not
        // delay the others.
        drop(timeout(CLOSE, self.acceptors.wait()).await);
        self.close_listeners();
    }

    /// Closes the listeners and begins the drain, whether or not all queued connections were
    /// accepted.
    pub fn close_listeners(&self) {
        self.listeners.lock().close();
        self.drain.begin();
    }

    /// Returns true if the connections that are queued at the listeners belong to another process
    /// ([`QueuedConnections::Theirs`]).
    pub(crate) fn leaves_queued_connections(&self) -> bool {
        self.leaves_queues.load(Relaxed)
    }

    /// Ends steering once the drain is over, unless the service manager keeps the listeners.
    /// Programs that this gateway loaded are unloaded, unless there is a standby.
    pub fn end_steering(&self) {
        if let Some(steered) = self.steering.lock().take()
            && !self.leaves_listeners.load(Relaxed)
        {
            steered.end();
        }
    }

    /// Notes that the service manager keeps the listeners when this process ends. Connections that
    /// are steered to them are queued there.
    pub(crate) fn leave_listeners_open(&self) {
        self.leaves_listeners.store(true, Relaxed);
    }

    /// Returns the [`WorkerHeartbeats`].
    pub(crate) fn heartbeats(&self) -> &WorkerHeartbeats {
        &self.heartbeats
    }

    /// Returns true if steering is active: the kernel hands the gateway connections on ports that
    /// it does not listen on.
    pub fn is_steered_to(&self) -> bool {
        self.worker_loads.get().is_some()
    }

    /// Returns the loads of the workers, which the kernel reads; `None` if steering is not active.
    pub(crate) fn worker_loads(&self) -> Option<&Arc<WorkerLoads>> {
        self.worker_loads.get()
    }

    /// Counts a failed handshake, and bans its source if it has reached the number that the
    /// policy's rule allows.
    pub(crate) fn handshake_failed(&self, source: IpAddr) {
        let snapshot = self.snapshot();
        let (Some(rule), Some(bans)) = (&snapshot.policy().gateway().ban, self.bans.get()) else {
            return;
        };
        let source = network(source);
        if !rule.concerns(source) || !self.handshake_failures.count(source, rule, Instant::now()) {
            return;
        }
        let (failures, seconds) = (rule.failures, rule.duration.as_secs());
        match bans.ban(source, rule.duration) {
            Ok(()) => {
                tracing::warn!(%source, failures, seconds, "source banned");
                self.recorder.banned(source, failures.get(), seconds);
            }
            Err(error) => tracing::error!(%error, %source, "cannot ban a source"),
        }
    }

    /// Waits until the gateway stops accepting. Cancel safe.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Returns the tracker of the accept loops, for which [`Gateway::close`] waits.
    pub(crate) fn acceptors(&self) -> &TaskTracker {
        &self.acceptors
    }

    /// Returns how many calls of `accept(2)` failed because of the system, for example for lack of
    /// descriptors or memory.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Relaxed)
    }

    /// Counts a failed accept and reports it, at most once a second.
    pub(crate) fn accept_failed(&self, error: &io::Error) {
        let failures = self.accept_failures.fetch_add(1, Relaxed) + 1;
        let mut reported = self.accept_reported.lock();
        if reported.is_none_or(|at| at.elapsed() >= REPORT_ACCEPT) {
            *reported = Some(Instant::now());
            tracing::error!(%error, failures, "cannot accept connections; check the open-file \
                                               limit");
        }
    }
}

/// A gateway that is ready to accept clients: its listeners are bound and its workers started. See
/// [`Gateway::open`].
#[derive(Debug)]
pub struct PreparedGateway {
    bound: BoundListeners,
    steered: Option<steering::PreparedSteering>,
    workers: WorkerThreads,
}
