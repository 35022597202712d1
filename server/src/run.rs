//! `portcullis run`: one gateway from its start to its end, with its signals, its reloads and upgrades.

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf::{MOST_WORKERS, Place, Role};
use lb::Drained;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Asked, Upgrade};
use crate::descriptors;
use crate::gateway::{Gateway, Prepared, Workers};
use crate::inherited::Inherited;
use crate::load::{LoadError, Loaded, base};
use crate::policy::Policy;
use crate::program;
use crate::record::Recorder;
use crate::sink::Sink;
use crate::succession::{Child, Elder, MESSAGES, Orders, SuccessionError, Summary};
use crate::systemd::{self, Store};
use crate::watch::Watch;

mod attempt;
mod first_verdicts;
mod reload;
mod signals;
mod upgrade;

use attempt::Attempt;
use first_verdicts::first_verdicts;
use reload::log_findings;
use signals::{Signals, Watchdog};

/// How often it is said how many records were suppressed.
const CONFESS: Duration = Duration::from_secs(10);
/// How often it is logged what ends soon.
const REMIND: Duration = Duration::from_hours(24);
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
    /// The process that it was to follow goes on, or is gone.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// The admin socket cannot be opened.
    #[error("{path}: cannot be opened: {source}", path = .path.display())]
    Admin {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something that every process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs a gateway until a signal ends it, or until another process has followed it and its last
/// connection has ended.
pub fn run(settings: Settings, succeed: bool) -> Result<Ended, StartError> {
    // Before the working directory or the search path can change.
    let program = program::started_from();
    // Before there are threads: it changes the environment.
    let kept = systemd::inherited()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let descriptors = descriptors::raise();
        if !succeed {
            let mut running = Run::begin(settings, kept, None, descriptors).await?;
            running.program = program;
            return Ok(running.until_ended(signals).await);
        }
        let mut elder = Elder::at_standard_input()?;
        let inherited = elder.inherit().await?;
        let begun = Run::begin(settings, inherited, Some(&mut elder), descriptors).await;
        match begun {
            Ok(mut running) => {
                running.program = program;
                running.have_parent(elder.take_parent())?;
                running.follow(elder);
                Ok(running.until_ended(signals).await)
            }
            Err(StartError::Succession(SuccessionError::Dismissed)) => Ok(Ended::Dismissed),
            Err(error) => {
                elder.fail(error.to_string()).await;
                Err(error)
            }
        }
    })
}

/// How a process of a gateway came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was only to be seen able to serve.
    Dismissed,
    /// It has no connections any more.
    Drained(Drained),
    /// It has none, and the process has ended that served last.
    Followed(Drained, ExitStatus),
}

/// A gateway that serves, with what it takes to reload, upgrade and end it.
#[derive(Debug)]
pub struct Run {
    gateway: Arc<Gateway>,
    workers: Workers,
    policy: PathBuf,
    watch: Watch,
    tasks: TaskTracker,
    /// What an upgrade runs if it is told no other.
    program: Option<PathBuf>,
    admin: Option<Admin>,
    asked: mpsc::Receiver<Asked>,
    orders: watch::Sender<Orders>,
    store: Option<Store>,
    /// The way to the process that was started first, if that stays as the parent of all.
    parent: Option<Child>,
    /// Whether another process serves now.
    is_followed: bool,
    /// Whether that one decides about this one's connections too.
    is_decided_elsewhere: bool,
}

/// A gateway that could serve.
struct Ready {
    gateway: Arc<Gateway>,
    prepared: Prepared,
    policy: PathBuf,
    watch: Watch,
    admin: Option<UnixListener>,
}

impl Ready {
    fn new(
        settings: Settings,
        loaded: Loaded,
        watch: Watch,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let recorder = Recorder::new(settings.records);
        let gateway = Gateway::following(loaded, recorder, inherited.generation());
        let workers = match settings.workers {
            Some(workers) => workers,
            None => usual_workers(gateway.running().policy())?,
        };
        let admin = inherited.take_admin();
        let prepared = gateway.prepare(workers, settings.instance.as_ref(), inherited)?;
        Ok(Self {
            gateway,
            prepared,
            policy: settings.policy,
            watch,
            admin,
        })
    }

    fn summary(&self) -> Summary {
        let running = self.gateway.running();
        Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            groups: running.policy().groups().count(),
            clients: running.policy().clients().count(),
            handover: MESSAGES,
        }
    }

    fn open(self) -> Result<Run, StartError> {
        let Self {
            gateway,
            prepared,
            policy,
            watch,
            admin,
        } = self;
        let (asking, asked) = mpsc::channel(1);
        let admin = match &gateway.running().policy().gateway().admin {
            Some(path) => {
                let path = base(&policy).join(path);
                let opened = Admin::open(path.clone(), admin, asking);
                Some(opened.map_err(|source| StartError::Admin { path, source })?)
            }
            None => None,
        };
        let workers = gateway.open(prepared)?;
        Ok(Run {
            gateway,
            workers,
            policy,
            watch,
            tasks: TaskTracker::new(),
            program: None,
            admin,
            asked,
            orders: watch::Sender::default(),
            store: None,
            parent: None,
            is_followed: false,
            is_decided_elsewhere: false,
        })
    }
}

impl Run {
    /// Starts serving. Must be called within a runtime, which then carries the health probes.
    pub async fn start(settings: Settings, loaded: Loaded) -> Result<Self, StartError> {
        let watch = Watch::new(files(&settings.policy, loaded.policy()));
        let ready = Ready::new(settings, loaded, watch, Inherited::default())?;
        first_verdicts(&ready.gateway).await;
        ready.open()
    }

    /// Starts serving, with what was inherited, as soon as the process that is followed has stopped.
    async fn begin(
        settings: Settings,
        inherited: Inherited,
        mut elder: Option<&mut Elder>,
        descriptors: Option<u64>,
    ) -> Result<Self, StartError> {
        let begin = Instant::now();
        // Each file is looked at before it is read: a write in between is seen as a change.
        let mut watch = Watch::new(vec![settings.policy.clone()]);
        let path = &settings.policy;
        let note = |policy: &Policy| watch.follow_also(files(path, policy));
        let loaded = Loaded::read_noting(path, note)?;
        let took = begin.elapsed();
        let store = systemd::keeps_listeners().then(|| Store::new(&inherited));
        let ready = Ready::new(settings, loaded, watch, inherited)?;
        ready.gateway.admission().set_descriptors(descriptors);
        if let Some(elder) = &mut elder {
            elder.tell_health(&ready.gateway);
        }
        first_verdicts(&ready.gateway).await;
        if let Some(elder) = &mut elder {
            elder.take_over(&ready.gateway, ready.summary()).await?;
        }
        let mut running = ready.open()?;
        if let Some(elder) = elder {
            elder.serving().await?;
        }
        if store.is_some() {
            running.gateway.leave_listeners_open();
        }
        running.store = store;
        running.keep_listeners();
        running.tell(&[NotifyState::Ready]);
        running.announce(took, descriptors);
        running.remind();
        Ok(running)
    }

    /// Counts the connections of the process that was followed, until it ends.
    fn follow(&self, elder: Elder) {
        if let Some(stay) = self.gateway.drain().enter() {
            let gateway = Arc::clone(&self.gateway);
            let orders = self.orders.subscribe();
            self.tasks.spawn(elder.follow(gateway, orders, stay));
            self.cut_what_it_would_not_let_in();
        }
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
            load_ms = reload::number(took.as_millis()),
            "policy in force"
        );
        log_findings(&self.gateway);
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

    /// Logs once a day what ends soon of the policy's files.
    fn remind(&self) {
        let gateway = Arc::clone(&self.gateway);
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(REMIND) => log_findings(&gateway),
                    () = gateway.closing() => return,
                }
            }
        });
    }

    /// Serves until a signal ends it, or until another process follows and nothing is left to do.
    async fn until_ended(mut self, mut signals: Signals) -> Ended {
        let mut confess = interval(CONFESS);
        confess.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new(systemd::watchdog());
        let mut attempt = Attempt::default();
        loop {
            tokio::select! {
                () = self.watch.changed() => self.reload().await,
                _ = signals.reload.recv() => {
                    self.orders.send_modify(|orders| orders.reloads += 1);
                    self.reload().await;
                }
                _ = signals.reopen.recv() => self.reopen(),
                _ = confess.tick() => self.gateway.recorder().confess(),
                () = watchdog.tick() => Watchdog::tell(self.gateway.pulse()),
                _ = signals.upgrade.recv() => self.try_upgrade(&mut attempt, Upgrade::default(), None),
                Some(asked) = self.asked.recv() => {
                    self.try_upgrade(&mut attempt, asked.upgrade, Some(asked.answer));
                }
                (wanted, candidate) = attempt.ready() => {
                    if let Some(successor) = self.decide(wanted, candidate).await {
                        return self.be_followed(successor, signals).await;
                    }
                }
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        let limit = self.drain_limit();
        Ended::Drained(self.stop(limit, signals.end()).await)
    }

    /// How long a drain may take.
    fn drain_limit(&self) -> Duration {
        self.gateway.running().policy().gateway().timeouts.drain
    }

    /// Opens the file of access records again, here and in the processes that drain.
    fn reopen(&self) {
        self.orders.send_modify(|orders| orders.reopens += 1);
        self.gateway.recorder().sink().reopen();
    }

    /// Drains until `deadline`, or until `impatient` is done.
    pub async fn stop(
        mut self,
        deadline: Duration,
        impatient: impl Future<Output = ()>,
    ) -> Drained {
        let gateway = Arc::clone(&self.gateway);
        tracing::info!(open = gateway.drain().open(), ?deadline, "draining");
        self.tell(&[NotifyState::Stopping]);
        self.orders.send_modify(|orders| orders.drain = true);
        if let Some(admin) = self.admin.take() {
            admin.close();
        }
        gateway.close().await;
        let drained = tokio::select! {
            drained = gateway.drain().finish(deadline) => drained,
            () = impatient => gateway.drain().finish(Duration::ZERO).await,
        };
        self.wind_up(drained).await
    }

    async fn wind_up(self, drained: Drained) -> Drained {
        let gateway = self.gateway;
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

    /// Tells the service manager, unless that is for another process to do.
    fn tell(&self, news: &[NotifyState<'_>]) {
        if !self.is_followed {
            systemd::tell(news);
        }
    }

    /// Has the service manager keep what is listened at now, if it keeps anything.
    fn keep_listeners(&mut self) {
        if let Some(store) = &mut self.store {
            match self.gateway.listeners() {
                Ok((listeners, _)) => store.keep(&listeners),
                Err(error) => tracing::warn!(%error, "the listeners cannot be kept"),
            }
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
