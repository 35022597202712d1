//! `portcullis run`: one gateway from its start to its end, with its signals, its reloads and upgrades.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use ebpf::{Place, Role};
use lb::Drained;
use sd_notify::NotifyState;
use tokio::runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Asked, Upgrade};
use crate::fd_limit;
use crate::file_watch::Watch;
use crate::gateway::{Gateway, Queued, Workers};
use crate::load::base;
use crate::log_writer::Sink;
use crate::policy::Policy;
use crate::program;
use crate::systemd::{self, Store};
use crate::upgrade::{Child, Elder, Orders, SuccessionError};

mod draining;
mod first_verdicts;
mod hand_over;
pub(crate) mod pending_reload;
mod pending_upgrade;
mod reload;
mod shutdown;
mod signals;
mod start;

pub use start::StartError;

use pending_upgrade::Attempt;
use reload::Reloads;
use shutdown::Ending;
use signals::{Signals, Watchdog};

/// How often it is said how many records were suppressed.
const CONFESS: Duration = Duration::from_secs(10);
/// How long the workers may take to end once nothing is left for them to do.
const WORKERS_END: Duration = Duration::from_secs(5);

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
        let descriptors = fd_limit::raise();
        if !succeed {
            let mut signals = Signals::listen()?;
            // It waits for upstreams, which may be away.
            let begun = tokio::select! {
                begun = Run::begin(settings, kept, None, descriptors) => begun,
                () = signals.end() => {
                    tracing::info!("ended before it served");
                    return Ok(Ended::Drained(Drained::Clean));
                }
            };
            let mut running = begun?;
            running.program = program;
            return running.until_ended(signals).await;
        }
        let mut elder = Elder::at_standard_input()?;
        let begun = async {
            let signals = Signals::listen()?;
            let inherited = elder.inherit().await?;
            let begun = Run::begin(settings, inherited, Some(&mut elder), descriptors).await;
            Ok((begun?, signals))
        };
        match begun.await {
            Ok((mut running, signals)) => {
                running.program = program;
                running.have_parent(elder.take_parent())?;
                running.follow(elder);
                running.until_ended(signals).await
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
    role: Role,
    /// The files as they were read; the thread that reloads takes it.
    watch: Option<Watch>,
    tasks: TaskTracker,
    /// What an upgrade runs if it is told no other.
    program: Option<PathBuf>,
    admin: Option<Admin>,
    asked: mpsc::Receiver<Asked>,
    orders: watch::Sender<Orders>,
    /// An older process has passed on that the gateway is to end.
    end_passed_on: Arc<Notify>,
    store: Option<Store>,
    ending: Ending,
    /// The way to the process that was started first, if that stays as the parent of all.
    parent: Option<Child>,
    /// Whether another process serves now.
    is_followed: bool,
    /// Whether that one decides about this one's connections too.
    is_decided_elsewhere: bool,
}

impl Run {
    /// Counts the connections of the process that was followed, until it ends.
    fn follow(&self, elder: Elder) {
        if let Some(stay) = self.gateway.drain().enter() {
            let gateway = Arc::clone(&self.gateway);
            let orders = self.orders.subscribe();
            let end = Arc::clone(&self.end_passed_on);
            self.tasks.spawn(elder.follow(gateway, orders, end, stay));
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

    /// Serves until a signal ends it, or until another process follows and nothing is left to do.
    ///
    /// Nothing in here waits but the one `select!`: what takes time is a task or a thread, whose end is one
    /// more thing to wait for.
    async fn until_ended(mut self, mut signals: Signals) -> Result<Ended, StartError> {
        let mut reloads = self.begin_to_reload()?;
        let mut confess = interval(CONFESS);
        confess.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new(systemd::watchdog());
        let mut attempt = Attempt::default();
        loop {
            tokio::select! {
                report = reloads.report() => self.heed(report),
                _ = signals.reload.recv() => self.reload(&reloads),
                _ = signals.reopen.recv() => self.reopen(),
                _ = confess.tick() => self.gateway.recorder().confess(),
                () = watchdog.tick() => Watchdog::tell(self.gateway.pulse()),
                _ = signals.upgrade.recv() => self.try_upgrade(&mut attempt, Upgrade::default(), None),
                Some(asked) = self.asked.recv() => {
                    self.try_upgrade(&mut attempt, asked.upgrade, Some(asked.answer));
                }
                stage = attempt.next() => {
                    if let Some(successor) = self.go_on(&mut attempt, stage) {
                        return Ok(self.be_followed(successor, signals, reloads).await);
                    }
                }
                // A process that is just taking over does so or fails first, which takes seconds at most.
                _ = signals.terminate.recv(), if !attempt.is_handing_over() => self.end(),
                _ = signals.interrupt.recv(), if !attempt.is_handing_over() => self.end(),
                () = self.end_passed_on.notified(), if !attempt.is_handing_over() => self.end_as_passed_on(),
                drained = self.ending.over() => return Ok(Ended::Drained(self.wind_up(drained).await)),
            }
            if self.ending.is_limited() {
                attempt.give_up();
            }
        }
    }

    /// Starts the thread that keeps what the files say in force.
    fn begin_to_reload(&mut self) -> io::Result<Reloads> {
        let watch = self.watch.take().unwrap_or_else(|| Watch::new(Vec::new()));
        Reloads::start(Arc::clone(&self.gateway), self.policy.clone(), watch)
    }

    /// Reads the policy again, here and in the processes that drain.
    fn reload(&self, reloads: &Reloads) {
        self.orders.send_modify(|orders| orders.reloads += 1);
        reloads.ask();
    }

    /// Opens the file of access records again, here and in the processes that drain.
    fn reopen(&self) {
        self.orders.send_modify(|orders| orders.reopens += 1);
        self.gateway.recorder().sink().reopen();
    }

    /// Begins the end, or has what is left of it happen at once.
    fn end(&mut self) {
        if let Some(limit) = self.ending.next_limit(self.drain_limit()) {
            self.drain(limit);
        }
    }

    /// Begins the end, unless it has begun.
    fn end_as_passed_on(&mut self) {
        if !self.ending.is_limited() {
            self.end();
            self.ending.was_passed_on();
        }
    }

    /// How long a drain may take.
    fn drain_limit(&self) -> Duration {
        self.gateway.running().policy().gateway().timeouts.drain
    }

    /// Begins to drain, unless it has begun, and has it end within `limit`.
    fn drain(&mut self, limit: Duration) {
        tracing::info!(open = self.gateway.drain().open(), deadline = ?limit, "draining");
        self.tell(&[NotifyState::Stopping]);
        self.orders.send_modify(|orders| orders.drain = true);
        self.asked.close();
        if let Some(admin) = self.admin.take() {
            admin.close();
        }
        self.ending.begin(&self.tasks, &self.gateway, Queued::Ours);
        self.ending.limit(limit);
    }

    /// Drains until `deadline`.
    pub async fn stop(mut self, deadline: Duration) -> Drained {
        self.drain(deadline);
        let drained = self.ending.over().await;
        self.wind_up(drained).await
    }

    async fn wind_up(self, drained: Drained) -> Drained {
        let gateway = self.gateway;
        self.workers.ended(WORKERS_END).await;
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

    /// Where the admin socket is to be, by the policy that is in force.
    fn admin_path(&self) -> Option<PathBuf> {
        admin_path(&self.policy, self.gateway.running().policy(), self.role)
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

/// Where the admin socket is to be. A standby's is beside the primary's: each can be reached.
fn admin_path(file: &Path, policy: &Policy, role: Role) -> Option<PathBuf> {
    let socket = policy.gateway().admin.as_ref()?;
    let mut path = base(file).join(socket).into_os_string();
    if role == Role::Standby {
        path.push(".standby");
    }
    Some(path.into())
}

/// The policy's file and the files that it names.
fn files(path: &Path, policy: &Policy) -> Vec<PathBuf> {
    let tls = &policy.gateway().tls;
    let named = [&tls.certificate, &tls.key, &tls.client_ca]
        .into_iter()
        .chain(&tls.crl);
    std::iter::once(path.to_owned())
        .chain(named.map(|file| base(path).join(file)))
        .collect()
}
