//! The gateway: its start, its changes and its end.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ebpf::{PinDir, Role};
use host::affinity;
use host::inherited_listeners::InheritedListeners;
use lb::Drain;
use parking_lot::Mutex;
use policy::WorkerAffinity;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::access_record::Recorder;
use crate::listeners::{BoundListeners, ListenError, Listeners};
use crate::loaded_policy::LoadedPolicy;
use crate::shared_state::{QueuedConnections, SharedState};
use crate::snapshot::GatewaySnapshot;
use crate::steering::{self, ActiveSteering, SteeringUnavailable};
use crate::worker::{self, AcceptFailures};

mod handover;
pub mod reload;
#[cfg(test)]
mod simulation;
mod workers;

pub use workers::WorkerThreads;

/// Capacity of the queue of listeners that are assigned to one worker.
const MOST_ASSIGNED: usize = 1024;
/// Time limit for accepting the queued connections at the end: 5 seconds.
const CLOSE: Duration = Duration::from_secs(5);

/// Reason why a gateway cannot start.
#[derive(Debug, Error)]
pub enum GatewayStartError {
    /// The gateway cannot listen on an address of the policy.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Steering is required, but is not available.
    #[error("steering is required, but not available: {0}")]
    SteeringUnavailable(#[from] SteeringUnavailable),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// A gateway: its workers' [`SharedState`], its listeners and its steering.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<SharedState>,
    accept_failures: Arc<AcceptFailures>,
    listeners: Mutex<Listeners>,
    steering: Mutex<Option<ActiveSteering>>,
    /// True if the service manager keeps the listeners when this process ends.
    leaves_listeners: AtomicBool,
}

impl Gateway {
    /// Creates a gateway whose policy is in force, with generation 1. It has no listeners yet.
    pub fn new(loaded: LoadedPolicy, recorder: Recorder) -> Arc<Self> {
        Self::after_generation(loaded, Arc::new(recorder), 0)
    }

    /// Does the same as [`Gateway::new`], but the first generation is the one after `generation`,
    /// that of another process.
    pub fn after_generation(
        loaded: LoadedPolicy,
        recorder: Arc<Recorder>,
        generation: u64,
    ) -> Arc<Self> {
        let shared = SharedState::new(loaded, recorder, generation);
        Arc::new(Self {
            listeners: Mutex::new(Listeners::new(shared.closing_token().clone())),
            shared: Arc::new(shared),
            accept_failures: Arc::default(),
            steering: Mutex::new(None),
            leaves_listeners: AtomicBool::new(false),
        })
    }

    /// Starts the workers and binds the policy's addresses, except those of `inherited` listeners,
    /// but accepts no clients yet. A standby binds no addresses, because it would then serve
    /// clients while the primary does.
    ///
    /// # Errors
    ///
    /// An address cannot be bound (this may be called again then), steering is required but not
    /// available, or a thread cannot be started.
    pub fn prepare(
        &self,
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
            self.shared.standby().begin();
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
            let shared = (Arc::clone(&self.shared), Arc::clone(&self.accept_failures));
            worker::start(number, processor, shared, queue)
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
            let bans = steered.bans().map_err(SteeringUnavailable::from);
            let bans = bans.inspect_err(|_| self.end_workers())?;
            self.shared.begin_steering(steered.worker_loads(), bans);
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
        self.shared.closing_token().cancel();
        self.drain().begin();
    }

    /// Returns the addresses that the gateway listens on, with real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.lock().addresses()
    }

    /// Returns the state that the workers share.
    pub fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// Returns the [`GatewaySnapshot`] that is in force now.
    pub fn snapshot(&self) -> Arc<GatewaySnapshot> {
        self.shared.snapshot()
    }

    /// Returns the [`Recorder`] of access records.
    pub fn recorder(&self) -> &Arc<Recorder> {
        self.shared.recorder()
    }

    /// Returns the [`Drain`], which ends the gateway's connections.
    pub fn drain(&self) -> &Drain {
        self.shared.drain()
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
        self.shared.stop_accepting(queued);
        // A reload must not open a listener that no worker accepts on.
        self.listeners.lock().disable();
        let acceptors = self.shared.acceptors();
        acceptors.close();
        // What is left of them is bounded by the kernel's queues. A worker that hangs must not
        // delay the others.
        drop(timeout(CLOSE, acceptors.wait()).await);
        self.close_listeners();
    }

    /// Closes the listeners and begins the drain, whether or not all queued connections were
    /// accepted.
    pub fn close_listeners(&self) {
        self.listeners.lock().close();
        self.drain().begin();
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
    pub fn leave_listeners_open(&self) {
        self.leaves_listeners.store(true, Relaxed);
    }

    /// Returns true if steering is active: the kernel hands the gateway connections on ports that
    /// it does not listen on.
    pub fn is_steered_to(&self) -> bool {
        self.shared.worker_loads().is_some()
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
