//! A process after an upgrade: it drains its connections, and may stay as the parent of later
//! processes.

use std::future::pending;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use host::signals::ProcessSignals;
use lb::Drained;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::end::RunEnd;
use super::hand_over::CompletedUpgrade;
use super::pending_upgrade::HandingOver;
use super::process::{GatewayProcess, REPORT_SUPPRESSED, ServiceState};
use super::reload::ReloadThread;
use crate::upgrade::{OldProcessCommand, OldProcessNews, ParentProcess, Supervision};
use admin::AdminSocket;
use gateway::Gateway;
use gateway::shared_state::QueuedConnections;
use host::systemd::{self, NotifyState};

/// Limit of queued orders from the process that serves.
const ORDERS: usize = 16;

/// Wait until the service manager has read which process serves; see [`systemd::is_read`].
type PendingNotification = AbortOnDropHandle<io::Result<()>>;

impl GatewayProcess {
    /// Keeps the connections until they end, or until the whole gateway shuts down. After that this
    /// process stays as the parent if no other process notices the end of the one that serves.
    pub(super) async fn drain_after_upgrade(
        mut self,
        followed: Box<CompletedUpgrade>,
        signals: ProcessSignals,
        reloads: ReloadThread,
    ) -> RunEnd {
        let CompletedUpgrade { over, successor } = *followed;
        let (new_pid, connections) = (successor.pid(), successor.connections());
        let (supervision, reports) = successor.split();
        let (parent, telling) = self.hand_over_supervision(supervision, new_pid).await;
        self.state = if reports.decides_remotely() {
            ServiceState::DecidedRemotely
        } else {
            ServiceState::Replaced
        };
        self.descriptor_store = None;
        self.forwarded.send_modify(|orders| orders.upgraded = true);
        let (ordering, orders) = mpsc::channel(ORDERS);
        let gateway = Arc::clone(&self.gateway);
        let news = Arc::new(OldProcessNews::default());
        let reporting = reports.run(Arc::clone(&gateway), Arc::clone(&news), ordering);
        self.tasks.spawn(reporting);
        self.upgrade_requests.close();
        // Connections that wait at the listeners are the other process's.
        self.shutdown
            .begin(&self.tasks, &gateway, QueuedConnections::Theirs);
        let answering = answer(Arc::clone(&gateway), over, connections, self.admin.take());
        self.tasks.spawn(answering);
        let mut draining = DrainingProcess {
            new_pid,
            parent,
            telling,
            orders,
            news: Arc::clone(&news),
            signals,
            is_last: true,
            is_gone: false,
        };
        let drained = draining.drain(&mut self, reloads).await;
        let drained = self.wind_up(drained).await;
        news.report_drained();
        drop(gateway);
        match draining.stay_as_parent().await {
            Some(status) => RunEnd::Followed(drained, status),
            None => RunEnd::Drained(drained),
        }
    }

    /// Arranges that another process notices the end of the new one. Returns this process's end of
    /// the link, if it is that parent, and the pending notification of the service manager.
    async fn hand_over_supervision(
        &mut self,
        supervision: Supervision,
        new_pid: u32,
    ) -> (Option<ParentProcess>, Option<PendingNotification>) {
        match supervision {
            Supervision::Manager => {
                // The new process notifies the watchdog from now on.
                self.tell(&[NotifyState::MainPid(new_pid), NotifyState::Watchdog]);
                let read = self.tasks.spawn(systemd::is_read());
                (None, Some(AbortOnDropHandle::new(read)))
            }
            Supervision::ThisProcess(mut parent) => {
                parent.expect_child(new_pid);
                (Some(parent), None)
            }
            Supervision::FirstProcess(_) => {
                if let Some(child) = &mut self.parent {
                    child.report_new_process(new_pid).await;
                }
                (None, None)
            }
        }
    }
}

/// Answers the request for the upgrade as soon as this process has stopped accepting, and leaves
/// the admin socket to the new process.
async fn answer(
    gateway: Arc<Gateway>,
    over: HandingOver,
    connections: usize,
    admin: Option<AdminSocket>,
) {
    // A client that connects after the answer is the new process's.
    gateway.drain().begun().await;
    let mut upgraded = over.upgraded;
    upgraded.connections = connections;
    over.requested.done(upgraded);
    let open = gateway.drain().open();
    tracing::info!(open, "another process serves; draining");
    if let Some(admin) = admin {
        admin.hand_over().await;
    }
}

/// The inputs of an old process that drains: signals, orders and news of the process that serves.
#[derive(Debug)]
struct DrainingProcess {
    /// Process ID of the new process.
    new_pid: u32,
    /// The parent's side of the link, if this process is the parent of the one that serves.
    parent: Option<ParentProcess>,
    /// Present until the service manager has read which process serves; see [`systemd::is_read`].
    telling: Option<PendingNotification>,
    orders: mpsc::Receiver<OldProcessCommand>,
    news: Arc<OldProcessNews>,
    signals: ProcessSignals,
    /// True if the new process has not been replaced itself.
    is_last: bool,
    /// True if the process that served has ended unexpectedly.
    is_gone: bool,
}

impl DrainingProcess {
    /// Keeps the connections until none is left. As in the loop of the process that serves, the
    /// `select!` is the only place that waits.
    async fn drain(&mut self, run: &mut GatewayProcess, mut reloads: ReloadThread) -> Drained {
        let mut report_suppressed = interval(REPORT_SUPPRESSED);
        loop {
            tokio::select! {
                // If both are ready, the signal comes first: it was sent before the supervisor knew
                // the process that serves.
                biased;
                drained = run.shutdown.finished() => return drained,
                signal = self.signals.next() => self.heed(run, &reloads, signal),
                () = run.end_passed_on.notified() => self.pass_the_end_on(run),
                () = told(&mut self.telling) => self.telling = None,
                Some(order) = self.orders.recv() => self.handle_command(run, &reloads, order),
                status = ended(&mut self.parent), if !self.is_gone => {
                    self.report_lost(run, self.new_pid, Some(status));
                    run.drain(Duration::ZERO);
                }
                report = reloads.report() => run.handle_reload(report),
                _ = report_suppressed.tick() => run.gateway.recorder().report_suppressed(),
            }
        }
    }

    /// Handles a signal, or forwards it to the process that serves.
    fn heed(&mut self, run: &mut GatewayProcess, reloads: &ReloadThread, signal: Signal) {
        match (&mut self.parent, signal) {
            (Some(parent), signal) => parent.forward(signal),
            (None, Signal::HUP) => run.reload(reloads),
            (None, Signal::USR1) => run.reopen(),
            (None, Signal::USR2) => {
                tracing::warn!("another process serves; send SIGUSR2 to that process");
            }
            // A restart of the gateway waits for this process.
            (None, _) if self.is_gone => run.drain(Duration::ZERO),
            // The sender assumed that this process serves.
            (None, _) if self.telling.is_some() => self.pass_the_end_on(run),
            (None, _) => run.end(),
        }
    }

    /// Ends the gateway: this process, and by a message the one that serves.
    fn pass_the_end_on(&self, run: &mut GatewayProcess) {
        tracing::info!(
            pid = self.new_pid,
            "passing the shutdown on to the process that serves"
        );
        self.news.report_end();
        run.end_as_passed_on();
    }

    /// Handles an order from the process that serves.
    fn handle_command(
        &mut self,
        run: &mut GatewayProcess,
        reloads: &ReloadThread,
        order: OldProcessCommand,
    ) {
        match order {
            OldProcessCommand::Reload => run.reload(reloads),
            OldProcessCommand::Reopen => run.reopen(),
            OldProcessCommand::Drain if run.shutdown.is_limited() => {}
            OldProcessCommand::Drain => run.end(),
            OldProcessCommand::End => run.drain(Duration::ZERO),
            OldProcessCommand::Upgraded => self.is_last = false,
            OldProcessCommand::NewProcessLost(pid) => self.handle_lost(run, pid),
            OldProcessCommand::Disconnected if self.is_last => self.handle_lost(run, self.new_pid),
            OldProcessCommand::Disconnected => tracing::warn!(
                pid = self.new_pid,
                "the new process has ended and another one serves, which does not count this \
                 process's connections"
            ),
        }
    }

    /// Handles the unexpected end of the process that serves; a parent learns of it by itself.
    fn handle_lost(&mut self, run: &GatewayProcess, pid: u32) {
        if self.parent.is_none() {
            self.report_lost(run, pid, None);
        }
    }

    fn report_lost(&mut self, run: &GatewayProcess, pid: u32, status: Option<ExitStatus>) {
        self.is_gone = true;
        run.forwarded.send_modify(|orders| orders.lost = Some(pid));
        let open = run.gateway.drain().open();
        let status = status.map(|status| status.to_string());
        tracing::error!(
            pid,
            status,
            open,
            "the process that serves has ended; clients cannot connect until the gateway is \
             started again"
        );
        let news = format!("process {pid}, which served, has ended");
        systemd::tell(&[NotifyState::Status(&news)]);
    }

    /// Stays until the process ends that serves, if this one is its parent, and passes signals on.
    /// Returns its status, or `None` at once if this process is not its parent.
    async fn stay_as_parent(mut self) -> Option<ExitStatus> {
        self.parent.as_ref()?;
        drop(self.orders);
        tracing::info!(
            "no connection is left; this process stays as the parent of the one that serves"
        );
        loop {
            tokio::select! {
                status = ended(&mut self.parent) => return Some(status),
                signal = self.signals.next() => if let Some(parent) = &mut self.parent {
                    parent.forward(signal);
                },
            }
        }
    }
}

/// Waits until the service manager has read the pending notification of the process that serves, or
/// cannot be notified; never returns if none is pending. Cancel safe.
async fn told(telling: &mut Option<PendingNotification>) {
    match telling {
        Some(telling) => drop(telling.await),
        None => pending().await,
    }
}

/// Waits for the end of the process that serves; never returns if this process is not its parent.
/// Cancel safe.
async fn ended(parent: &mut Option<ParentProcess>) -> ExitStatus {
    match parent {
        Some(parent) => parent.ended().await,
        None => pending().await,
    }
}
