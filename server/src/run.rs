//! `portcullis run`: one process of a gateway from its start to its end, with its signals, reloads
//! and upgrades.

use std::sync::Arc;

use host::signals::{ProcessSignals, Watchdog};
use lb::Drained;
use tokio::runtime;
use tokio::time::{MissedTickBehavior, interval};

use crate::upgrade::{InheritError, OldProcess};
use admin::UpgradeRequest;
use host::fd_limit;
use host::file_watch::FileWatch;
use host::inherited_listeners::InheritedListeners;
use host::systemd;

mod admin_control;
mod draining;
mod end;
mod files;
mod finding_log;
mod first_verdicts;
mod hand_over;
mod listen_retry;
mod pending_upgrade;
mod process;
mod reload;
mod reload_report;
mod settings;
mod shutdown;
mod start;
mod take_over;
#[cfg(test)]
mod test_support;

pub(crate) use end::RunEnd;
pub(crate) use process::GatewayProcess;
pub(crate) use settings::{RunSettings, StartKind};
pub(crate) use start::StartError;

use pending_upgrade::PendingUpgrade;
use process::REPORT_SUPPRESSED;
use reload::ReloadThread;

/// Runs a gateway process until a signal ends it, or until another process has replaced it and its
/// last connection has ended.
///
/// It removes variables from the environment: no other thread may use the environment meanwhile.
///
/// # Errors
///
/// If the gateway cannot start. A process that inherits reports the error to the old one too.
pub(crate) fn run(settings: RunSettings, kind: StartKind) -> Result<RunEnd, StartError> {
    // Before the runtime starts threads: this changes the environment.
    let kept = systemd::inherited()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let descriptors = fd_limit::raise();
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        tracing::info!(version, pid, "starting");
        match kind {
            StartKind::Fresh => run_fresh(settings, kept, descriptors).await,
            StartKind::Upgrade => run_after_old_process(settings, descriptors).await,
        }
    })
}

/// Runs a process that starts by itself. A signal to terminate also stops a start that is under
/// way.
async fn run_fresh(
    settings: RunSettings,
    kept: InheritedListeners,
    descriptors: Option<u64>,
) -> Result<RunEnd, StartError> {
    let mut signals = ProcessSignals::listen()?;
    // The start waits for upstreams, which may be unreachable.
    let begun = tokio::select! {
        begun = GatewayProcess::begin(settings, kept, descriptors) => begun,
        () = signals.end() => {
            tracing::info!("stopped before it served");
            return Ok(RunEnd::Drained(Drained::Clean));
        }
    };
    let (process, watch) = begun?;
    process.until_ended(signals, watch).await
}

/// Runs a process that takes over from the one at its standard input.
async fn run_after_old_process(
    settings: RunSettings,
    descriptors: Option<u64>,
) -> Result<RunEnd, StartError> {
    let mut old_process = OldProcess::at_standard_input()?;
    let begun = async {
        let signals = ProcessSignals::listen()?;
        let begun = GatewayProcess::begin_after(&mut old_process, settings, descriptors);
        Ok((begun.await?, signals))
    };
    match begun.await {
        Ok(((mut process, watch), signals)) => {
            process.attach_parent(old_process.take_parent())?;
            process.count_old_process(old_process);
            process.until_ended(signals, watch).await
        }
        Err(StartError::Inherit(InheritError::Dismissed)) => Ok(RunEnd::Dismissed),
        Err(error) => {
            old_process.report_failure(error.to_string()).await;
            Err(error)
        }
    }
}

impl GatewayProcess {
    /// Serves until a signal ends it, or until another process replaces it and its last connection
    /// has ended.
    ///
    /// This `select!` is the only place that waits. An action that takes time runs as a task or a
    /// thread, and its end is one more branch.
    async fn until_ended(
        mut self,
        mut signals: ProcessSignals,
        watch: FileWatch,
    ) -> Result<RunEnd, StartError> {
        let mut reloads =
            ReloadThread::start(Arc::clone(&self.gateway), self.policy.clone(), watch)?;
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
                // During a handover, a signal to terminate waits until the handover has succeeded
                // or failed, which takes seconds.
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
}
