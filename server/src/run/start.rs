//! The start of a gateway: everything that it reads, binds and takes over before it serves.

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ebpf::{MOST_WORKERS, Role};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::admin_control::AdminControl;
use super::files::{admin_path, files};
use super::finding_log::FindingLog;
use super::first_verdicts::first_verdicts;
use super::listen_retry::prepare;
use super::process::{GatewayProcess, ServiceState};
use super::reload_report::{log_authorities, number};
use super::settings::{RunSettings, StartKind};
use super::shutdown::GatewayShutdown;
use crate::load::{self, LoadError};
use crate::upgrade::{InheritError, MESSAGE_SET, OldProcess};
use admin::{AdminSocket, ReadySummary};
use gateway::access_record::Recorder;
use gateway::loaded_policy::LoadedPolicy;
use gateway::{Gateway, GatewayStartError, PreparedGateway};
use host::fd_limit;
use host::file_watch::FileWatch;
use host::inherited_listeners::InheritedListeners;
use host::systemd::{self, DescriptorStore, NotifyState};
use policy::Policy;

/// Reason why a gateway did not start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// The policy or a file that it names cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The gateway cannot listen, be steered to, or start its workers.
    #[error(transparent)]
    Gateway(#[from] GatewayStartError),
    /// The old process has cancelled the upgrade, or has ended.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// The admin socket cannot be opened.
    #[error("cannot open the admin socket {path}: {source}", path = .path.display())]
    Admin {
        /// The socket.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// Too many of the process's file descriptors are open already (number, limit) to serve
    /// clients.
    #[error(
        "{0} of {1} file descriptors are in use, and too few are left for clients; raise the \
         open-file limit (LimitNOFILE=)"
    )]
    Descriptors(u64, u64),
    /// A system call failed that every process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Gateway that has everything loaded and bound, and does not serve yet. [`Self::open`] makes it
/// serve.
struct PreparedProcess {
    gateway: Arc<Gateway>,
    prepared: PreparedGateway,
    policy: PathBuf,
    role: Role,
    watch: FileWatch,
    admin: Option<UnixListener>,
    program: Option<PathBuf>,
    workers: usize,
    findings: FindingLog,
}

/// What is reported of a start once the process serves, and the listeners that the service manager
/// keeps.
struct StartReport {
    descriptor_store: Option<DescriptorStore>,
    /// Time that it took to read the policy and its files.
    load_time: Duration,
}

impl PreparedProcess {
    /// Loads the gateway and binds its addresses. An address that is in use is waited for, as the
    /// policy allows, unless an old process goes on serving.
    async fn new(
        settings: RunSettings,
        loaded: LoadedPolicy,
        watch: FileWatch,
        mut inherited: InheritedListeners,
        kind: StartKind,
    ) -> Result<Self, StartError> {
        let recorder = Arc::new(Recorder::new(settings.records));
        let gateway = Gateway::after_generation(loaded, recorder, inherited.generation());
        let workers = match settings.workers {
            Some(workers) => workers,
            None => workers(gateway.snapshot().policy())?,
        };
        let admin = inherited.take_admin();
        let role = settings
            .instance
            .as_ref()
            .map_or(Role::Primary, |(_, role)| *role);
        let limit = gateway.snapshot().policy().gateway().listen_retry;
        let limit = limit.filter(|_| kind == StartKind::Fresh);
        let (instance, limit) = (settings.instance.as_ref(), limit.unwrap_or_default());
        let prepared = prepare(&gateway, workers, instance, inherited, limit).await?;
        Ok(Self {
            gateway,
            prepared,
            findings: FindingLog::new(settings.policy.clone(), settings.access_log),
            policy: settings.policy,
            role,
            watch,
            admin,
            program: settings.program,
            workers: workers.get(),
        })
    }

    fn summary(&self) -> ReadySummary {
        let running = self.gateway.snapshot();
        ReadySummary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            groups: running.policy().groups().count(),
            clients: running.policy().clients().count(),
            handover: MESSAGE_SET,
        }
    }

    /// Makes it serve. Returns the watch of its files too, for the thread that reloads.
    fn open(self) -> Result<(GatewayProcess, FileWatch), StartError> {
        let Self {
            gateway,
            prepared,
            policy,
            role,
            watch,
            admin,
            program,
            workers,
            findings,
        } = self;
        let (asking, upgrade_requests) = mpsc::channel(1);
        let news = watch::Sender::default();
        let control = AdminControl {
            gateway: Arc::clone(&gateway),
            policy: policy.clone(),
            role,
            workers,
            started: (Instant::now(), SystemTime::now()),
            news: news.subscribe(),
            upgrade_requests: asking,
        };
        let admin = match admin_path(&policy, gateway.snapshot().policy(), role) {
            Some(path) => {
                let opened = AdminSocket::open(path.clone(), admin, Arc::new(control));
                Some(opened.map_err(|source| StartError::Admin { path, source })?)
            }
            None => None,
        };
        let workers = gateway.open(prepared)?;
        let process = GatewayProcess {
            gateway,
            workers,
            policy,
            role,
            tasks: TaskTracker::new(),
            program,
            admin,
            upgrade_requests,
            news,
            forwarded: watch::Sender::default(),
            end_passed_on: Arc::default(),
            descriptor_store: None,
            shutdown: GatewayShutdown::default(),
            parent: None,
            state: ServiceState::Serving,
            findings: Arc::new(findings),
        };
        Ok((process, watch))
    }
}

impl GatewayProcess {
    /// Starts serving. Must be called within a tokio runtime, which also runs the health probes.
    ///
    /// # Errors
    ///
    /// A [`StartError`] if an address cannot be bound, if required steering is not available, or if
    /// the system has no thread or file descriptor left.
    pub(crate) async fn start(
        settings: RunSettings,
        loaded: LoadedPolicy,
    ) -> Result<Self, StartError> {
        let watch = FileWatch::new(files(&settings.policy, loaded.policy()));
        let none = InheritedListeners::default();
        let ready = PreparedProcess::new(settings, loaded, watch, none, StartKind::Fresh).await?;
        first_verdicts(&ready.gateway).await;
        // Nothing reloads it.
        let (process, _watch) = ready.open()?;
        Ok(process)
    }

    /// Starts serving by itself, with the listeners that the service manager keeps. Returns the
    /// watch of its files too.
    pub(super) async fn begin(
        settings: RunSettings,
        kept: InheritedListeners,
        descriptors: Option<u64>,
    ) -> Result<(Self, FileWatch), StartError> {
        let (ready, report) = load_and_bind(settings, kept, StartKind::Fresh, descriptors).await?;
        first_verdicts(&ready.gateway).await;
        let (mut process, watch) = ready.open()?;
        process.report_start(report);
        Ok((process, watch))
    }

    /// Takes over from an old process: starts serving when that orders it to, and waits until it
    /// has closed its listeners. Returns the watch of its files too.
    pub(super) async fn begin_after(
        old_process: &mut OldProcess,
        settings: RunSettings,
        descriptors: Option<u64>,
    ) -> Result<(Self, FileWatch), StartError> {
        let inherited = old_process.receive_listeners().await?;
        let kind = StartKind::Upgrade;
        let (ready, report) = load_and_bind(settings, inherited, kind, descriptors).await?;
        old_process.apply_health(&ready.gateway);
        first_verdicts(&ready.gateway).await;
        old_process
            .receive_connections(&ready.gateway, ready.summary())
            .await?;
        let (mut process, watch) = ready.open()?;
        old_process.report_serving().await?;
        process.report_start(report);
        Ok((process, watch))
    }

    /// Reports to the service manager and in the log that this process serves.
    fn report_start(&mut self, report: StartReport) {
        let StartReport {
            descriptor_store,
            load_time,
        } = report;
        if descriptor_store.is_some() {
            self.gateway.leave_listeners_open();
        }
        self.descriptor_store = descriptor_store;
        self.keep_listeners();
        self.tell(&[NotifyState::Ready]);
        self.announce(load_time);
        let (findings, gateway) = (Arc::clone(&self.findings), Arc::clone(&self.gateway));
        self.tasks.spawn(findings.follow(gateway));
    }

    fn announce(&self, took: Duration) {
        let running = self.gateway.snapshot();
        let policy = running.policy();
        let listening: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        tracing::info!(
            policy = %self.policy.display(),
            groups = policy.groups().count(),
            clients = policy.clients().count(),
            load_ms = number(took.as_millis()),
            "policy in force"
        );
        log_authorities(&self.gateway);
        self.findings.log(&self.gateway);
        if listening.is_empty() {
            tracing::info!("standing by: steered connections come here while there is no primary");
            return;
        }
        tracing::info!(
            addresses = listening.join(" "),
            "serving TLS 1.3 with client certificates"
        );
    }
}

/// Reads the policy and its files, and prepares the gateway with them and the listeners that there
/// are already.
async fn load_and_bind(
    settings: RunSettings,
    inherited: InheritedListeners,
    kind: StartKind,
    descriptors: Option<u64>,
) -> Result<(PreparedProcess, StartReport), StartError> {
    let begin = Instant::now();
    // Each file is stamped before it is read: a write in between is seen as a change.
    let mut watch = FileWatch::new(vec![settings.policy.clone()]);
    let path = &settings.policy;
    let note = |policy: &Policy| watch.follow_also(files(path, policy));
    let loaded = load::read_noting(path, note)?;
    let load_time = begin.elapsed();
    let descriptor_store = systemd::keeps_listeners().then(|| DescriptorStore::new(&inherited));
    let mut ready = PreparedProcess::new(settings, loaded, watch, inherited, kind).await?;
    if let Some(most) = descriptors
        && let Some(open) = fd_limit::too_many_open(most)
    {
        return Err(StartError::Descriptors(open, most));
    }
    ready.gateway.shared().limits().set_descriptors(descriptors);
    ready.findings.set_descriptors(descriptors);
    let report = StartReport {
        descriptor_store,
        load_time,
    };
    Ok((ready, report))
}

/// Returns the number of workers: the policy's, else one for each processor; with steering at most
/// [`MOST_WORKERS`].
fn workers(policy: &Policy) -> io::Result<NonZeroUsize> {
    if let Some(count) = policy.gateway().workers.count {
        return count.try_into().map_err(io::Error::other);
    }
    let processors = std::thread::available_parallelism()?;
    let most = NonZeroUsize::new(MOST_WORKERS as usize);
    let steers = policy.gateway().steer.is_some();
    Ok(most
        .filter(|_| steers)
        .map_or(processors, |most| processors.min(most)))
}
