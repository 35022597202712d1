//! The gateway: what its workers share, its start, its changes and its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ebpf::{Bans, Loads, Place, Role};
use lb::{Drain, LoadBalancer};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_record::Recorder;
use crate::affinity;
use crate::connection_table::Live;
use crate::handshake_failures::Failures;
use crate::heartbeat::Pulse;
use crate::inherited_listeners::Inherited;
use crate::limits::{Admission, network};
use crate::listeners::{Bound, Doors};
use crate::load::{LoadError, Loaded};
use crate::policy::{Affinity, Policy};
use crate::snapshot::Running;
use crate::steering::{self, Steered, Unsteered};
use crate::tls::Tls;
use crate::worker;

mod admission;
mod handover;
mod reload;
#[cfg(test)]
mod simulation;
mod standby;
mod workers;

pub(crate) use admission::Wait;
pub use reload::Applied;
pub use workers::{Queued, Workers};

/// How many listeners may be on their way to one worker.
const DOORS_WAITING: usize = 1024;
/// How long accepting what is queued may take at the end.
const CLOSE: Duration = Duration::from_secs(5);
/// How often a failing accept is reported, at most.
const REPORT_ACCEPT: Duration = Duration::from_secs(1);

/// What the workers of one gateway share.
#[derive(Debug)]
pub struct Gateway {
    running: ArcSwap<Running>,
    balancer: LoadBalancer,
    admission: Admission,
    live: Arc<Live>,
    recorder: Arc<Recorder>,
    closing: CancellationToken,
    doors: Mutex<Doors>,
    steered: Mutex<Option<Steered>>,
    loads: OnceLock<Arc<Loads>>,
    standby: standby::Standby,
    bans: OnceLock<Bans>,
    failures: Failures,
    acceptors: TaskTracker,
    drain: Drain,
    pulse: Pulse,
    /// Whether somebody keeps the listeners when this process ends.
    leaves_listeners: AtomicBool,
    /// Whether what waits at the listeners at the end is another process's.
    leaves_queues: AtomicBool,
    accept_failures: AtomicU64,
    accept_reported: Mutex<Option<Instant>>,
}

impl Gateway {
    /// A gateway with a policy in force, that listens nowhere yet.
    pub fn new(loaded: Loaded, recorder: Recorder) -> Arc<Self> {
        Self::following(loaded, recorder, 0)
    }

    /// The same, whose first generation is the next after that of another process.
    pub fn following(loaded: Loaded, recorder: Recorder, generation: u64) -> Arc<Self> {
        let (policy, tls) = loaded.into_parts();
        Self::with(policy, Arc::new(tls), Arc::new(recorder), generation)
    }

    fn with(policy: Policy, tls: Arc<Tls>, recorder: Arc<Recorder>, generation: u64) -> Arc<Self> {
        let balancer = LoadBalancer::default();
        let running = Running::first(policy, tls, &balancer);
        let running = running.after(generation);
        let closing = CancellationToken::new();
        Arc::new(Self {
            doors: Mutex::new(Doors::new(closing.clone())),
            steered: Mutex::new(None),
            loads: OnceLock::new(),
            standby: standby::Standby::default(),
            bans: OnceLock::new(),
            failures: Failures::default(),
            closing,
            running: ArcSwap::from_pointee(running),
            balancer,
            admission: Admission::default(),
            live: Arc::new(Live::default()),
            recorder,
            acceptors: TaskTracker::new(),
            drain: Drain::new(),
            pulse: Pulse::default(),
            leaves_listeners: AtomicBool::new(false),
            leaves_queues: AtomicBool::new(false),
            accept_failures: AtomicU64::new(0),
            accept_reported: Mutex::new(None),
        })
    }

    /// Starts the workers and binds what the policy wants, apart from what is inherited, but lets nobody
    /// in yet. A standby binds no addresses: they would be served beside the primary's.
    pub fn prepare(
        self: &Arc<Self>,
        workers: NonZeroUsize,
        instance: Option<&(Place, Role)>,
        mut inherited: Inherited,
    ) -> Result<Prepared, LoadError> {
        let mut doors = self.doors.lock();
        let mut queues = Vec::new();
        for _ in 0..workers.get() {
            let (worker, queue) = mpsc::channel(DOORS_WAITING);
            doors.staff(worker);
            queues.push(queue);
        }
        let running = self.running();
        if let Some((_, Role::Standby)) = instance {
            doors.keep_closed();
            self.standby.begin();
        }
        let bound = doors.bind(&running.policy().gateway().listen, &mut inherited)?;
        let steered = match instance {
            Some((place, role)) => {
                let policy = running.policy();
                steering::prepare(place, *role, policy, workers.get(), &mut inherited)?
            }
            None => None,
        };
        let processors = match running.policy().gateway().workers.affinity {
            Affinity::Off => Vec::new(),
            Affinity::On => affinity::processors().map_err(LoadError::Thread)?,
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
        Ok(Prepared {
            bound,
            steered,
            workers: Workers::new(threads.map_err(LoadError::Thread)?),
        })
    }

    /// Takes its place in the kernel, if it has one, and lets clients in.
    pub fn open(&self, prepared: Prepared) -> Result<Workers, LoadError> {
        let Prepared {
            bound,
            steered,
            workers,
        } = prepared;
        let running = self.running();
        let steered = match steered {
            Some(steered) => steered.begin(workers.len()).inspect_err(|_| {
                // The workers have nothing to do.
                self.closing.cancel();
                self.drain.begin();
            })?,
            None => None,
        };
        let mut doors = self.doors.lock();
        if let Some((mut steered, listeners)) = steered {
            self.loads.get_or_init(|| steered.loads());
            let bans = steered.bans().map_err(Unsteered::from)?;
            self.bans.get_or_init(|| bans);
            doors.open_steered(listeners);
            steered.apply(running.policy());
            *self.steered.lock() = Some(steered);
        } else if running.policy().gateway().ban.is_some() {
            tracing::warn!("nothing is steered, so nobody is banned");
        }
        doors.open(bound, &running.policy().gateway().listen);
        Ok(workers)
    }

    /// Where the gateway listens, with real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.doors.lock().addresses()
    }

    /// What is in force now.
    pub fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }

    /// The balancer.
    pub fn balancer(&self) -> &LoadBalancer {
        &self.balancer
    }

    /// The places before authentication.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The connections that hold a permit.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Where records begin.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// The end of the gateway.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Stops accepting, and begins the drain once what waits in the queues is accepted, if that is for this
    /// process to do. Cancel safe: [`Gateway::shut`] does the rest at once.
    pub async fn close(&self, queued: Queued) {
        if let Some(steered) = self.steered.lock().as_mut()
            && !self.leaves_listeners.load(Relaxed)
        {
            steered.retire();
        }
        self.leaves_queues.store(queued == Queued::Theirs, Relaxed);
        self.closing.cancel();
        // A reload must not open what nobody stands at.
        self.doors.lock().keep_closed();
        self.acceptors.close();
        // Their rest is bounded by the kernel's queues. A worker that hangs must not hold up the others.
        drop(timeout(CLOSE, self.acceptors.wait()).await);
        self.shut();
    }

    /// Closes the listeners and begins the drain, whether or not everything was accepted.
    pub fn shut(&self) {
        self.doors.lock().shut();
        self.drain.begin();
    }

    /// Whether what waits at the listeners is for another process.
    pub(crate) fn leaves_what_is_queued(&self) -> bool {
        self.leaves_queues.load(Relaxed)
    }

    /// Leaves the kernel as it was, once the drain is over.
    pub fn end_steering(&self) {
        if let Some(steered) = self.steered.lock().take()
            && !self.leaves_listeners.load(Relaxed)
        {
            steered.end();
        }
    }

    /// Somebody keeps the listeners when this process ends: what is steered to them waits there.
    pub(crate) fn leave_listeners_open(&self) {
        self.leaves_listeners.store(true, Relaxed);
    }

    /// Whether the workers live.
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether the kernel hands connections to it on ports that it does not listen on.
    pub fn is_steered_to(&self) -> bool {
        self.loads.get().is_some()
    }

    /// How busy the workers are, if the kernel is to know.
    pub(crate) fn loads(&self) -> Option<&Arc<Loads>> {
        self.loads.get()
    }

    /// Counts a failed handshake, and bans its source if it was one too many.
    pub(crate) fn handshake_failed(&self, source: IpAddr) {
        let running = self.running();
        let (Some(rule), Some(bans)) = (&running.policy().gateway().ban, self.bans.get()) else {
            return;
        };
        let source = network(source);
        if !rule.concerns(source) || !self.failures.count(source, rule, Instant::now()) {
            return;
        }
        let (failures, seconds) = (rule.failures, rule.duration.as_secs());
        match bans.ban(source, rule.duration) {
            Ok(()) => {
                tracing::warn!(%source, failures, seconds, "source banned");
                self.recorder.banned(source, failures.get(), seconds);
            }
            Err(error) => tracing::error!(%error, %source, "a source cannot be banned"),
        }
    }

    /// Waits until no more may be accepted. Cancel safe.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// The loops that accept.
    pub(crate) fn acceptors(&self) -> &TaskTracker {
        &self.acceptors
    }

    /// How often `accept(2)` failed for want of descriptors or memory.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Relaxed)
    }

    /// Counts a failed accept, and reports it once in a while.
    pub(crate) fn accept_failed(&self, error: &io::Error) {
        let failures = self.accept_failures.fetch_add(1, Relaxed) + 1;
        let mut reported = self.accept_reported.lock();
        if reported.is_none_or(|at| at.elapsed() >= REPORT_ACCEPT) {
            *reported = Some(Instant::now());
            tracing::error!(%error, failures, "connections cannot be accepted; is the limit of open files too low?");
        }
    }
}

/// A gateway that is ready to let clients in.
#[derive(Debug)]
pub struct Prepared {
    bound: Bound,
    steered: Option<steering::Prepared>,
    workers: Workers,
}
