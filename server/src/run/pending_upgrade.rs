//! The upgrade that is in progress: at most one at a time.

use std::future::pending;
use std::io;
use std::path::PathBuf;

use tokio::sync::oneshot;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::upgrade::{CandidateProcess, NewProcess, UpgradeError};
use admin::UpgradeReport;

/// Channel for the answer to a request.
pub(super) type ReportSender = oneshot::Sender<Result<UpgradeReport, UpgradeError>>;

/// The upgrade that is in progress, if there is one. Dropping it kills the process that was being
/// started.
#[derive(Debug, Default)]
pub(super) struct PendingUpgrade(Option<UpgradePhase>);

#[derive(Debug)]
enum UpgradePhase {
    /// A process is being started.
    Starting(
        RequestedUpgrade,
        AbortOnDropHandle<Result<CandidateProcess, UpgradeError>>,
    ),
    /// The process is ready, and takes over.
    HandingOver(
        HandingOver,
        AbortOnDropHandle<Result<NewProcess, UpgradeError>>,
    ),
}

/// Request and report of an upgrade in its phase [`UpgradePhase::HandingOver`].
#[derive(Debug)]
pub(super) struct HandingOver {
    pub(super) requested: RequestedUpgrade,
    pub(super) upgraded: UpgradeReport,
}

/// Phase of an upgrade that has ended, with its result, as [`PendingUpgrade::next`] returns it.
#[derive(Debug)]
pub(super) enum EndedPhase {
    /// A process is ready, or could not be started.
    Started(RequestedUpgrade, Result<CandidateProcess, UpgradeError>),
    /// The process has taken over, or could not.
    TakenOver(HandingOver, Result<NewProcess, UpgradeError>),
}

/// Request for an upgrade. Without a channel for the answer it came by signal.
#[derive(Debug)]
pub(super) struct RequestedUpgrade {
    pub(super) dry_run: bool,
    pub(super) binary: PathBuf,
    pub(super) answer: Option<ReportSender>,
}

impl PendingUpgrade {
    /// Starts a process by `starting`. If an upgrade is in progress, the request fails.
    pub(super) fn begin(
        &mut self,
        tasks: &TaskTracker,
        requested: RequestedUpgrade,
        starting: impl Future<Output = Result<CandidateProcess, UpgradeError>> + Send + 'static,
    ) {
        if self.0.is_some() {
            requested.failed(UpgradeError::InProgress);
            return;
        }
        let starting = AbortOnDropHandle::new(tasks.spawn(starting));
        self.0 = Some(UpgradePhase::Starting(requested, starting));
    }

    /// Lets the process that is ready take over by `taking`.
    pub(super) fn hand_over(
        &mut self,
        tasks: &TaskTracker,
        over: HandingOver,
        taking: impl Future<Output = Result<NewProcess, UpgradeError>> + Send + 'static,
    ) {
        let taking = AbortOnDropHandle::new(tasks.spawn(taking));
        self.0 = Some(UpgradePhase::HandingOver(over, taking));
    }

    /// Returns true if a process is taking over, which must not be interrupted.
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(self.0, Some(UpgradePhase::HandingOver(..)))
    }

    /// Kills a process that is being started; its request fails. A process that is taking over is
    /// not affected.
    pub(super) fn cancel(&mut self) {
        if let Some(UpgradePhase::Starting(..)) = &self.0
            && let Some(UpgradePhase::Starting(requested, _)) = self.0.take()
        {
            requested.failed(UpgradeError::Draining);
        }
    }

    /// Waits for the end of a phase; never returns if no upgrade is in progress. Cancel safe.
    pub(super) async fn next(&mut self) -> EndedPhase {
        match &mut self.0 {
            Some(UpgradePhase::Starting(_, starting)) => {
                let candidate = ended(starting).await;
                if let Some(UpgradePhase::Starting(requested, _)) = self.0.take() {
                    return EndedPhase::Started(requested, candidate);
                }
            }
            Some(UpgradePhase::HandingOver(_, taking)) => {
                let successor = ended(taking).await;
                if let Some(UpgradePhase::HandingOver(over, _)) = self.0.take() {
                    return EndedPhase::TakenOver(over, successor);
                }
            }
            None => {}
        }
        pending().await
    }
}

async fn ended<T>(
    task: &mut AbortOnDropHandle<Result<T, UpgradeError>>,
) -> Result<T, UpgradeError> {
    task.await
        .unwrap_or_else(|panic| Err(io::Error::other(panic).into()))
}

impl RequestedUpgrade {
    /// Logs and answers that the upgrade was done, or that the trial succeeded.
    pub(super) fn done(self, upgraded: UpgradeReport) {
        if upgraded.dry_run {
            tracing::info!(binary = %self.binary.display(), file = %upgraded.file.display(), "an upgrade would succeed");
        } else {
            let (pid, connections) = (upgraded.pid, upgraded.connections);
            let (binary, file) = (self.binary.display(), upgraded.file.display());
            tracing::info!(%binary, %file, pid, connections, "upgraded");
        }
        self.respond(Ok(upgraded));
    }

    /// Logs and answers that the upgrade failed.
    pub(super) fn failed(self, error: UpgradeError) {
        tracing::error!(
            %error,
            binary = %self.binary.display(),
            "the upgrade failed; this process goes on serving"
        );
        self.respond(Err(error));
    }

    fn respond(self, answer: Result<UpgradeReport, UpgradeError>) {
        if let Some(waiting) = self.answer {
            // The client may have disconnected.
            drop(waiting.send(answer));
        }
    }
}
