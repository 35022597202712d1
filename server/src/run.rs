//! `portcullis run`: one process of a gateway from its start to its end, with its signals, reloads
//! and upgrades.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use ebpf::{PinDir, Role};
use lb::Drained;
use tokio::runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use crate::admin::{AdminSocket, PendingRequest, UpgradeRequest};
use crate::fd_limit;
use crate::file_watch::FileWatch;
use crate::gateway::{Gateway, WorkerThreads};
use crate::load::base;
use crate::log_writer::Sink;
use crate::policy::Policy;
use crate::program;
use crate::shared_state::QueuedConnections;
use crate::systemd::{self, DescriptorStore, NotifyState};
use crate::upgrade::{ForwardedCommands, InheritError, OldProcess, ParentLink};

mod draining;
mod first_verdicts;
mod hand_over;
mod listen_retry;
mod pending_upgrade;
mod reload;
mod shutdown;
mod signals;
mod start;

pub use start::StartError;

use pending_upgrade::PendingUpgrade;
use reload::ReloadThread;
use shutdown::GatewayShutdown;
use signals::{ProcessSignals, Watchdog};

/// Interval of the reports of suppressed records: 10 s.
const REPORT_SUPPRESSED: Duration = Duration::from_secs(10);
/// Time limit for the workers to end once they have nothing left to do: 5 s.
const WORKERS_END: Duration = Duration::from_secs(5);

/// Settings of a gateway process, as the command line gives them.
#[derive(Debug)]
pub struct RunSettings {
    /// Path of the policy's file.
    pub policy: PathBuf,
    /// Number of workers; if absent the policy's, and without that one for each processor that the
    /// process may use.
    pub workers: Option<NonZeroUsize>,
    /// Output of the access records.
    pub records: Sink,
    /// Directory where the steering programs are pinned, and the gateway's role there; if absent,
    /// nothing is steered.
    pub instance: Option<(PinDir, Role)>,
}

/// Runs a gateway process until a signal ends it, or until another process has replaced it and its
/// last connection has ended. With `inherit` it takes over from the process at its standard input.
///
/// It removes variables from the environment: no other thread may use the environment meanwhile.
///
/// # Errors
///
/// If the gateway cannot start. A process that inherits reports the error to the old one too.
pub fn run(settings: RunSettings, inherit: bool) -> Result<RunEnd, StartError> {
    // Before the working directory or the search path can change.
    let program = program::started_from();
    // Before the runtime starts threads: this changes the environment.
    let kept = systemd::inherited()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let descriptors = fd_limit::raise();
        if !inherit {
            let mut signals = ProcessSignals::listen()?;
            // The start waits for upstreams, which may be unreachable.
            let begun = tokio::select! {
                begun = GatewayProcess::begin(settings, kept, None, descriptors) => begun,
                () = signals.end() => {
                    tracing::info!("stopped before it served");
                    return Ok(RunEnd::Drained(Drained::Clean));
                }
            };
            let mut running = begun?;
            running.program = program;
            return running.until_ended(signals).await;
        }
        let mut old_process = OldProcess::at_standard_input()?;
        let begun = async {
            let signals = ProcessSignals::listen()?;
            let inherited = old_process.receive_listeners().await?;
            let begun =
                GatewayProcess::begin(settings, inherited, Some(&mut old_process), descriptors)
                    .await;
            Ok((begun?, signals))
        };
        match begun.await {
            Ok((mut running, signals)) => {
                running.program = program;
                running.attach_parent(old_process.take_parent())?;
                running.count_old_process(old_process);
                running.until_ended(signals).await
            }
            Err(StartError::Inherit(InheritError::Dismissed)) => Ok(RunEnd::Dismissed),
            Err(error) => {
                old_process.report_failure(error.to_string()).await;
                Err(error)
            }
        }
    })
}

/// Result of a gateway process that has ended. The exit code of the program follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The upgrade was cancelled or was only a trial: this process never served.
    Dismissed,
    /// The process has no connections any more.
    Drained(Drained),
    /// The process has no connections any more, and the process that served last, whose parent it
    /// was, has ended with this status.
    Followed(Drained, ExitStatus),
}

/// Process of a gateway that serves, with its means to reload, upgrade and end it.
#[derive(Debug)]
pub struct GatewayProcess {
    gateway: Arc<Gateway>,
    workers: WorkerThreads,
    policy: PathBuf,
    role: Role,
    /// Watch of the files as they were read, until the thread that reloads takes it.
    watch: Option<FileWatch>,
    tasks: TaskTracker,
    /// Default program of an upgrade.
    program: Option<PathBuf>,
    admin: Option<AdminSocket>,
    upgrade_requests: mpsc::Receiver<PendingRequest>,
    forwarded: watch::Sender<ForwardedCommands>,
    /// Notified when an older process reports that the gateway is to end.
    end_passed_on: Arc<Notify>,
    descriptor_store: Option<DescriptorStore>,
    shutdown: GatewayShutdown,
    /// Link to the process that was started first, if that stays as the parent of all later ones.
    parent: Option<ParentLink>,
    /// True if another process serves now.
    is_upgraded: bool,
    /// True if the process that serves decides about this one's connections too; see
    /// `ConnectionReports::decides_remotely`.
    is_decided_remotely: bool,
}

impl GatewayProcess {
    /// Starts to count the connections of the old process, until it ends.
    fn count_old_process(&self, old_process: OldProcess) {
        if let Some(stay) = self.gateway.drain().enter() {
            let gateway = Arc::clone(&self.gateway);
            let orders = self.forwarded.subscribe();
            let end = Arc::clone(&self.end_passed_on);
            self.tasks
                .spawn(old_process.count_connections(gateway, orders, end, stay));
            self.end_revoked_remote();
        }
    }

    /// Returns the gateway.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Returns the addresses that the gateway listens at.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.gateway.addresses()
    }

    /// Serves until a signal ends it, or until another process replaces it and its last connection
    /// has ended.
    ///
    /// The one `select!` is the only place that waits: an action that takes time is a task or a
    /// thread, whose end is one more branch of it.
    async fn until_ended(mut self, mut signals: ProcessSignals) -> Result<RunEnd, StartError> {
        let mut reloads = self.begin_to_reload()?;
        let mut report_suppressed = interval(REPORT_SUPPRESSED);
        report_suppressed.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new(systemd::watchdog());
        let mut pending_upgrade = PendingUpgrade::default();
        loop {
            tokio::select! {
                report = reloads.report() => self.handle_reload(report),
                _ = signals.reload.recv() => self.reload(&reloads),
                _ = signals.reopen.recv() => self.reopen(),
                _ = report_suppressed.tick() => self.gateway.recorder().report_suppressed(),
                () = watchdog.tick() => Watchdog::tell(self.gateway.shared().heartbeats()),
                _ = signals.upgrade.recv() => self.try_upgrade(&mut pending_upgrade, UpgradeRequest::default(), None),
                Some(request) = self.upgrade_requests.recv() => {
                    self.try_upgrade(&mut pending_upgrade, request.upgrade, Some(request.answer));
                }
                stage = pending_upgrade.next() => {
                    if let Some(successor) = self.continue_upgrade(&mut pending_upgrade, stage) {
                        return Ok(self.drain_after_upgrade(successor, signals, reloads).await);
                    }
                }
                // A process that is taking over does so or fails first, within seconds.
                _ = signals.terminate.recv(), if !pending_upgrade.is_handing_over() => self.end(),
                _ = signals.interrupt.recv(), if !pending_upgrade.is_handing_over() => self.end(),
                () = self.end_passed_on.notified(), if !pending_upgrade.is_handing_over() => self.end_as_passed_on(),
                drained = self.shutdown.finished() => return Ok(RunEnd::Drained(self.wind_up(drained).await)),
            }
            if self.shutdown.is_limited() {
                pending_upgrade.cancel();
            }
        }
    }

    /// Starts the [`ReloadThread`], which reloads the policy when its files change.
    fn begin_to_reload(&mut self) -> io::Result<ReloadThread> {
        let watch = self
            .watch
            .take()
            .unwrap_or_else(|| FileWatch::new(Vec::new()));
        ReloadThread::start(Arc::clone(&self.gateway), self.policy.clone(), watch)
    }

    /// Reads the policy again, here and in the processes that drain.
    fn reload(&self, reloads: &ReloadThread) {
        self.forwarded.send_modify(|orders| orders.reloads += 1);
        reloads.ask();
    }

    /// Opens the file of access records again, here and in the processes that drain.
    fn reopen(&self) {
        self.forwarded.send_modify(|orders| orders.reopens += 1);
        self.gateway.recorder().sink().reopen();
    }

    /// Begins the end of the gateway. At the second signal what is left ends at once.
    fn end(&mut self) {
        if let Some(limit) = self.shutdown.next_limit(self.drain_limit()) {
            self.drain(limit);
        }
    }

    /// Begins the end that an older process has reported, unless it has begun.
    fn end_as_passed_on(&mut self) {
        if !self.shutdown.is_limited() {
            self.end();
            self.shutdown.note_forwarded();
        }
    }

    /// Returns the time limit of a drain by the policy in force.
    fn drain_limit(&self) -> Duration {
        self.gateway.snapshot().policy().gateway().timeouts.drain
    }

    /// Begins to drain, unless it has begun, and limits the time that is left to `limit`.
    fn drain(&mut self, limit: Duration) {
        tracing::info!(open = self.gateway.drain().open(), deadline = ?limit, "draining");
        self.tell(&[NotifyState::Stopping]);
        self.forwarded.send_modify(|orders| orders.drain = true);
        self.upgrade_requests.close();
        if let Some(admin) = self.admin.take() {
            admin.close();
        }
        self.shutdown
            .begin(&self.tasks, &self.gateway, QueuedConnections::Ours);
        self.shutdown.limit(limit);
    }

    /// Drains for `deadline` at most, and then ends what is left.
    pub async fn stop(mut self, deadline: Duration) -> Drained {
        self.drain(deadline);
        let drained = self.shutdown.finished().await;
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
        gateway.recorder().report_suppressed();
        gateway.recorder().sink().flush();
        drained
    }

    /// Returns the path of the admin socket by the policy in force.
    fn admin_path(&self) -> Option<PathBuf> {
        admin_path(&self.policy, self.gateway.snapshot().policy(), self.role)
    }

    /// Notifies the service manager, unless another process serves now and does so.
    fn tell(&self, news: &[NotifyState<'_>]) {
        if !self.is_upgraded {
            systemd::tell(news);
        }
    }

    /// Updates the listeners that the service manager keeps, if it keeps any.
    fn keep_listeners(&mut self) {
        if let Some(store) = &mut self.descriptor_store {
            match self.gateway.listeners() {
                Ok((listeners, _)) => store.keep(&listeners),
                Err(error) => tracing::warn!(%error, "cannot pass the listeners to the service \
                                                      manager"),
            }
        }
    }
}

/// Returns the path of the admin socket; `None` if the policy has none. The name of a standby's
/// ends with `.standby`, so that it and the primary can both be reached.
fn admin_path(file: &Path, policy: &Policy, role: Role) -> Option<PathBuf> {
    let socket = policy.gateway().admin.as_ref()?;
    let mut path = base(file).join(socket).into_os_string();
    if role == Role::Standby {
        path.push(".standby");
    }
    Some(path.into())
}

/// Returns the policy's file and the files that it names.
fn files(path: &Path, policy: &Policy) -> Vec<PathBuf> {
    let tls = &policy.gateway().tls;
    let named = [&tls.certificate, &tls.key, &tls.client_ca]
        .into_iter()
        .chain(&tls.crl);
    std::iter::once(path.to_owned())
        .chain(named.map(|file| base(path).join(file)))
        .collect()
}
