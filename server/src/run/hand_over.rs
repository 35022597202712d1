//! The handover of a running gateway from its process to the next one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::pending_upgrade::{
    EndedPhase, HandingOver, PendingUpgrade, ReportSender, RequestedUpgrade,
};
use super::process::GatewayProcess;
use crate::upgrade::{CandidateProcess, NewProcess, ParentLink, Supervision, UpgradeError};
use admin::{AdminSocket, USUAL_TIMEOUT, UpgradeReport, UpgradeRequest};
use host::inherited_listeners::ListenerPurpose;
use host::program::resolved;

/// Upgrade that is complete, with the process that serves now.
#[derive(Debug)]
pub(super) struct CompletedUpgrade {
    pub(super) over: HandingOver,
    pub(super) successor: NewProcess,
}

impl GatewayProcess {
    /// Starts a process that is to replace this one. The request fails if this process drains, if
    /// an upgrade is in progress, or if the program is unknown or not given by an absolute path.
    pub(super) fn try_upgrade(
        &self,
        pending_upgrade: &mut PendingUpgrade,
        upgrade: UpgradeRequest,
        answer: Option<ReportSender>,
    ) {
        let dry_run = upgrade.dry_run;
        let mut requested = RequestedUpgrade {
            dry_run,
            binary: PathBuf::new(),
            answer,
        };
        if self.shutdown.is_limited() {
            return requested.failed(UpgradeError::Draining);
        }
        let Some(binary) = upgrade.binary.or_else(|| self.program.clone()) else {
            return requested.failed(UpgradeError::NoProgram);
        };
        requested.binary.clone_from(&binary);
        if !binary.is_absolute() {
            return requested.failed(UpgradeError::NotAbsolute(binary));
        }
        let limit = upgrade.timeout_seconds;
        let limit = limit.map_or(USUAL_TIMEOUT, Duration::from_secs);
        let admin = self.admin.as_ref().map(AdminSocket::socket).transpose();
        let more = admin.map(|socket| socket.map(|socket| (ListenerPurpose::Admin, socket)));
        let parent = self.parent.as_ref().map(ParentLink::share).transpose();
        let gateway = Arc::clone(&self.gateway);
        let file = resolved(&binary);
        tracing::info!(binary = %binary.display(), file = %file.display(), dry_run, "upgrading");
        pending_upgrade.begin(&self.tasks, requested, async move {
            let more = more?.into_iter().collect();
            let supervision = Supervision::of(parent?).await?;
            CandidateProcess::start(&gateway, &binary, supervision, more, limit).await
        });
    }

    /// Continues an upgrade after a phase has ended. Returns the process that serves now, if one
    /// does.
    pub(super) fn continue_upgrade(
        &mut self,
        pending_upgrade: &mut PendingUpgrade,
        stage: EndedPhase,
    ) -> Option<Box<CompletedUpgrade>> {
        match stage {
            EndedPhase::Started(requested, candidate) => {
                self.hand_over_if_wanted(pending_upgrade, requested, candidate);
                None
            }
            EndedPhase::TakenOver(over, successor) => match successor {
                Ok(successor) => Some(Box::new(CompletedUpgrade { over, successor })),
                Err(error) => {
                    over.requested.failed(error);
                    None
                }
            },
        }
    }

    /// Lets a process that is ready take over, or ends it if it was only a trial.
    fn hand_over_if_wanted(
        &self,
        pending_upgrade: &mut PendingUpgrade,
        requested: RequestedUpgrade,
        candidate: Result<CandidateProcess, UpgradeError>,
    ) {
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err(error) => return requested.failed(error),
        };
        let upgraded = UpgradeReport {
            dry_run: requested.dry_run,
            binary: requested.binary.clone(),
            file: candidate.file().to_owned(),
            summary: candidate.summary().clone(),
            listeners: candidate.listeners(),
            pid: candidate.pid(),
            old_pid: std::process::id(),
            connections: self.gateway.shared().connections().open(),
        };
        if requested.dry_run {
            self.tasks.spawn(candidate.dismiss());
            return requested.done(upgraded);
        }
        let gateway = Arc::clone(&self.gateway);
        let taking = async move { candidate.hand_over(&gateway).await };
        pending_upgrade.hand_over(
            &self.tasks,
            HandingOver {
                requested,
                upgraded,
            },
            taking,
        );
    }
}
