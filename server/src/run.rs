//! `portcullis run`: one gateway from its start to its end, with its signals and its reloads.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf::{MOST_WORKERS, Place, Role};
use lb::Drained;
use thiserror::Error;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use crate::descriptors;
use crate::gateway::{Applied, Gateway, LoadError, Loaded, Workers, base};
use crate::policy::Policy;
use crate::record::Recorder;
use crate::sink::Sink;
use crate::watch::Watch;

/// How often it is said how many records were suppressed.
const CONFESS: Duration = Duration::from_secs(10);
/// The nice value of a reload's threads.
const LOWEST_PRIORITY: i32 = 19;
/// How many changes of one reload are logged one by one.
const CHANGES_LOGGED: usize = 20;

/// How a gateway is to run.
#[derive(Debug)]
pub struct Settings {
    /// The policy's file.
    pub policy: PathBuf,
    /// How many workers; as many as the process may use processors if absent.
    pub workers: Option<NonZeroUsize>,
    /// Where access records go.
    pub records: Sink,
    /// Where the kernel's half is pinned, and what the gateway is to it; without it nothing is steered.
    pub instance: Option<(Place, Role)>,
}

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The policy cannot be put in force.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The system refused something that every process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs a gateway until a signal ends it.
pub fn run(settings: Settings) -> Result<Drained, StartError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let descriptors = descriptors::raise();
        let begin = Instant::now();
        let loaded = Loaded::read(&settings.policy)?;
        let running = Run::start(settings, loaded)?;
        running.announce(begin.elapsed(), descriptors);
        Ok(running.until_stopped(signals).await)
    })
}

/// A gateway that serves, with what it takes to reload and end it.
#[derive(Debug)]
pub struct Run {
    gateway: Arc<Gateway>,
    workers: Workers,
    policy: PathBuf,
    watch: Watch,
    tasks: TaskTracker,
}

impl Run {
    /// Starts serving. Must be called within a runtime, which then carries the health probes.
    pub fn start(settings: Settings, loaded: Loaded) -> Result<Self, StartError> {
        let watch = Watch::new(files(&settings.policy, loaded.policy()));
        let gateway = Gateway::new(loaded, Recorder::new(settings.records));
        let workers = match settings.workers {
            Some(workers) => workers,
            None => usual_workers(gateway.running().policy())?,
        };
        gateway.balancer().start();
        let workers = gateway.serve(workers, settings.instance.as_ref())?;
        Ok(Self {
            gateway,
            workers,
            policy: settings.policy,
            watch,
            tasks: TaskTracker::new(),
        })
    }

    /// The gateway.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.gateway.addresses()
    }

    fn announce(&self, took: Duration, descriptors: Option<u64>) {
        let running = self.gateway.running();
        let policy = running.policy();
        let listening: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        tracing::info!(
            policy = %self.policy.display(),
            groups = policy.groups().count(),
            clients = policy.clients().count(),
            load_ms = took.as_millis(),
            "policy in force"
        );
        warn_of_dates(&self.gateway);
        descriptors::warn(descriptors, policy.gateway().limits.connections);
        if listening.is_empty() {
            tracing::info!("standing by: what is steered comes here while there is no primary");
            return;
        }
        tracing::info!(
            addresses = listening.join(" "),
            "serving TLS 1.3 with client certificates"
        );
    }

    /// Serves until a signal ends it: drains at the first, ends at once at the second.
    async fn until_stopped(mut self, mut signals: Signals) -> Drained {
        let mut confess = interval(CONFESS);
        confess.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.watch.changed() => self.reload().await,
                _ = signals.reload.recv() => self.reload().await,
                _ = signals.reopen.recv() => self.gateway.recorder().sink().reopen(),
                _ = confess.tick() => self.gateway.recorder().confess(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        let deadline = self.gateway.running().policy().gateway().timeouts.drain;
        self.stop(deadline, signals.end()).await
    }

    /// Drains until `deadline`, or until `impatient` is done.
    pub async fn stop(self, deadline: Duration, impatient: impl Future<Output = ()>) -> Drained {
        let gateway = self.gateway;
        tracing::info!(open = gateway.drain().open(), ?deadline, "draining");
        gateway.close().await;
        let drained = tokio::select! {
            drained = gateway.drain().finish(deadline) => drained,
            () = impatient => gateway.drain().finish(Duration::ZERO).await,
        };
        self.workers.join();
        let probes = gateway.balancer().stop(Duration::ZERO).await;
        debug_assert_eq!(
            probes,
            Drained::Clean,
            "the balancer has no connections of its own"
        );
        gateway.end_steering();
        gateway.recorder().confess();
        gateway.recorder().sink().flush();
        drained
    }

    /// Reads the policy and its files again. Whatever is wrong with them, what is in force stays.
    pub async fn reload(&mut self) {
        let gateway = Arc::clone(&self.gateway);
        let path = self.policy.clone();
        let begin = Instant::now();
        // The files are stamped before they are read: a write in between is seen as a new change.
        let running = gateway.running();
        self.watch.follow(files(&path, running.policy()));
        let reading = behind_the_workers(move || {
            let applied = gateway.reload(&path)?;
            let files = files(&path, gateway.running().policy());
            Ok::<_, LoadError>((applied, files))
        });
        match reading.await {
            Ok(Ok((applied, files))) => {
                if !self.watch.follows(&files) {
                    self.watch.follow(files);
                }
                self.report(applied, begin.elapsed());
            }
            Ok(Err(error)) => {
                let generation = running.generation();
                tracing::error!(%error, generation, "the policy was not reloaded; the old one stays in force");
            }
            Err(error) => {
                tracing::error!(%error, "the reload did not end; the old policy stays in force");
            }
        }
    }

    fn report(&self, applied: Applied, took: Duration) {
        let Applied {
            generation,
            changes,
            took: in_force,
            lapsed,
            on_revoke,
        } = applied;
        for change in changes.iter().take(CHANGES_LOGGED) {
            tracing::info!(%change, "changed");
        }
        tracing::info!(
            generation,
            changes = changes.len(),
            lapsed = lapsed.len(),
            took_ms = took.as_millis(),
            apply_us = in_force.as_micros(),
            "policy reloaded"
        );
        warn_of_dates(&self.gateway);
        if !lapsed.is_empty() {
            let (how, drain) = on_revoke;
            self.tasks.spawn(lapsed.end(how, drain));
        }
    }
}

/// One worker a processor, but no more than the kernel can steer to.
fn usual_workers(policy: &Policy) -> io::Result<NonZeroUsize> {
    let processors = std::thread::available_parallelism()?;
    let most = NonZeroUsize::new(MOST_WORKERS as usize);
    let steers = policy.gateway().steer.is_some();
    Ok(most
        .filter(|_| steers)
        .map_or(processors, |most| processors.min(most)))
}

/// Does work on a thread of its own, and its threads', that get what processor time the workers
/// leave: connections are not to notice that a large policy is read.
async fn behind_the_workers<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, oneshot::error::RecvError> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || {
            // Linux has a nice value for each thread (sched(7)); where it cannot be had, so be it.
            rustix::process::nice(LOWEST_PRIORITY).ok();
            // Nobody waits any more if the gateway ends meanwhile.
            done.send(work()).ok();
        });
    if let Err(error) = thread {
        tracing::error!(%error, "no thread can be had for a reload");
    }
    result.await
}

fn warn_of_dates(gateway: &Gateway) {
    let now = rustls_pki_types::UnixTime::now();
    let running = gateway.running();
    let (valid, all) = running.tls().trust().valid_authorities(now);
    if valid < all {
        tracing::warn!(
            valid,
            all,
            "client authorities are out of date; their clients are refused"
        );
    }
}

/// The policy's file and the files that it names.
fn files(path: &std::path::Path, policy: &Policy) -> Vec<PathBuf> {
    let tls = &policy.gateway().tls;
    let named = [&tls.certificate, &tls.key, &tls.client_ca]
        .into_iter()
        .chain(&tls.crl);
    std::iter::once(path.to_owned())
        .chain(named.map(|file| base(path).join(file)))
        .collect()
}

/// The signals that a gateway listens to.
#[derive(Debug)]
struct Signals {
    reload: Signal,
    reopen: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal that ends the gateway. Cancel safe.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
