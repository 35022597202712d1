//! One process of a gateway, and the actions that it takes whether it serves or drains.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebpf::Role;
use lb::Drained;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::task::TaskTracker;

use super::admin_control::{PendingRequest, ProcessNews};
use super::files::admin_path;
use super::finding_log::FindingLog;
use super::reload::ReloadThread;
use super::shutdown::GatewayShutdown;
use crate::upgrade::{ForwardedCommands, ParentLink};
use admin::AdminSocket;
use gateway::shared_state::QueuedConnections;
use gateway::{Gateway, WorkerThreads};
use host::systemd::{self, DescriptorStore, NotifyState};

/// Interval of the reports of suppressed records: 10 s.
pub(super) const REPORT_SUPPRESSED: Duration = Duration::from_secs(10);
/// Time limit for the workers to end once they have nothing left to do: 5 s.
const WORKERS_END: Duration = Duration::from_secs(5);

/// Process of a gateway, with its means to reload, upgrade and end it.
#[derive(Debug)]
pub(crate) struct GatewayProcess {
    pub(super) gateway: Arc<Gateway>,
    pub(super) workers: WorkerThreads,
    pub(super) policy: PathBuf,
    pub(super) role: Role,
    pub(super) tasks: TaskTracker,
    /// Default program of an upgrade.
    pub(super) program: Option<PathBuf>,
    pub(super) admin: Option<AdminSocket>,
    pub(super) upgrade_requests: mpsc::Receiver<PendingRequest>,
    /// State that the admin socket reports.
    pub(super) news: watch::Sender<ProcessNews>,
    pub(super) forwarded: watch::Sender<ForwardedCommands>,
    /// Notified when an older process reports that the gateway is to end.
    pub(super) end_passed_on: Arc<Notify>,
    pub(super) descriptor_store: Option<DescriptorStore>,
    pub(super) shutdown: GatewayShutdown,
    /// Link to the process that was started first, if that stays as the parent of all later ones.
    pub(super) parent: Option<ParentLink>,
    pub(super) state: ServiceState,
    pub(super) findings: Arc<FindingLog>,
}

/// Which process serves, and which one decides about this one's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceState {
    /// This process serves.
    Serving,
    /// Another process serves. It is too old to decide about this one's connections.
    Replaced,
    /// Another process serves, and decides about this one's connections too.
    DecidedRemotely,
}

impl GatewayProcess {
    /// Returns the gateway.
    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Returns the addresses that the gateway listens at.
    pub(crate) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.gateway.addresses()
    }

    /// Reads the policy again, here and in the processes that drain.
    pub(super) fn reload(&self, reloads: &ReloadThread) {
        self.forwarded.send_modify(|orders| orders.reloads += 1);
        reloads.ask();
    }

    /// Opens the file of access records again, here and in the processes that drain.
    pub(super) fn reopen(&self) {
        self.forwarded.send_modify(|orders| orders.reopens += 1);
        self.gateway.recorder().sink().reopen();
    }

    /// Begins the end of the gateway. At the second signal what is left ends at once.
    pub(super) fn end(&mut self) {
        if let Some(limit) = self.shutdown.next_limit(self.drain_limit()) {
            self.drain(limit);
        }
    }

    /// Begins the end that an older process has reported, unless it has begun.
    pub(super) fn end_as_passed_on(&mut self) {
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
    pub(super) fn drain(&mut self, limit: Duration) {
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
    pub(crate) async fn stop(mut self, deadline: Duration) -> Drained {
        self.drain(deadline);
        let drained = self.shutdown.finished().await;
        self.wind_up(drained).await
    }

    pub(super) async fn wind_up(self, drained: Drained) -> Drained {
        let gateway = self.gateway;
        self.workers.ended(WORKERS_END).await;
        let probes = gateway.shared().balancer().stop(Duration::ZERO).await;
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
    pub(super) fn admin_path(&self) -> Option<PathBuf> {
        admin_path(&self.policy, self.gateway.snapshot().policy(), self.role)
    }

    /// Notifies the service manager, unless another process serves now and does so.
    pub(super) fn tell(&self, news: &[NotifyState<'_>]) {
        if self.state == ServiceState::Serving {
            systemd::tell(news);
        }
    }

    /// Updates the listeners that the service manager keeps, if it keeps any.
    pub(super) fn keep_listeners(&mut self) {
        if let Some(store) = &mut self.descriptor_store {
            match self.gateway.listeners() {
                Ok((listeners, _)) => store.keep(&listeners),
                Err(error) => tracing::warn!(
                    %error,
                    "cannot pass the listeners to the service manager"
                ),
            }
        }
    }
}
