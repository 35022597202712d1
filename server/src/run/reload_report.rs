//! Reports of reloads, to the log and to the service manager.

use std::time::Duration;

use admin::ReloadStatus;
use time::OffsetDateTime;

use super::admin_control::rfc_3339;
use super::process::{GatewayProcess, ServiceState};
use super::reload::{ReloadError, ReloadEvent, ReloadOutcome};
use admin::AdminSocket;
use gateway::Gateway;
use gateway::reload::ReloadReport;
use host::systemd::NotifyState;

/// Limit of the changes that are logged one by one for one reload.
const CHANGES_LOGGED: usize = 20;

impl GatewayProcess {
    /// Handles a report of the thread that reloads.
    pub(super) fn handle_reload(&mut self, report: ReloadEvent) {
        match report {
            ReloadEvent::Began => {
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    self.tell(&[NotifyState::Reloading, now]);
                }
            }
            ReloadEvent::Ended(ended) => {
                self.conclude(ended);
                self.keep_listeners();
                self.tell(&[NotifyState::Ready]);
            }
        }
    }

    fn conclude(&self, ended: ReloadOutcome) {
        let ReloadOutcome {
            applied,
            took,
            retry_in,
        } = ended;
        self.note_reload(&applied);
        let generation = self.gateway.snapshot().generation();
        let retry_ms = retry_in.map(|pause| number(pause.as_millis()));
        match applied {
            Ok(applied) => self.report(applied, took),
            Err(ReloadError::Changing) => {
                tracing::info!(
                    "a file changed while it was read; it is read again when it no longer changes"
                );
            }
            Err(ReloadError::Panicked) => {
                tracing::error!(
                    generation,
                    retry_ms,
                    "the reload thread panicked; the old policy stays in force"
                );
            }
            Err(error) if self.state == ServiceState::DecidedRemotely => tracing::error!(
                %error,
                open = self.gateway.drain().open(),
                retry_ms,
                "this process cannot read the policy; the one that serves decides about its connections"
            ),
            Err(error) => {
                tracing::error!(%error, generation, retry_ms, "the policy was not reloaded; the old one stays in force");
            }
        }
    }

    /// Notes the end of a reload for the admin socket.
    fn note_reload(&self, applied: &Result<ReloadReport, ReloadError>) {
        let (changes, error) = match applied {
            Ok(applied) => (Some(applied.changes.len()), None),
            // It goes on when the file is complete.
            Err(ReloadError::Changing) => return,
            Err(error) => (None, Some(error.to_string())),
        };
        let time = rfc_3339(OffsetDateTime::now_utc());
        let reload = ReloadStatus {
            time,
            changes,
            error,
        };
        self.news
            .send_modify(|news| news.last_reload = Some(reload));
    }

    fn report(&self, applied: ReloadReport, took: Duration) {
        let ReloadReport {
            generation,
            changes,
            took: in_force,
            revoked,
            on_revoke,
        } = applied;
        for change in changes.iter().take(CHANGES_LOGGED) {
            tracing::info!(%change, "changed");
        }
        tracing::info!(
            generation,
            changes = changes.len(),
            revoked = revoked.len(),
            took_ms = number(took.as_millis()),
            apply_us = number(in_force.as_micros()),
            "policy reloaded"
        );
        log_authorities(&self.gateway);
        self.findings.policy_reloaded();
        let wanted = self.admin_path();
        let open = self.admin.as_ref().map(AdminSocket::path);
        if self.state == ServiceState::Serving && wanted.as_deref() != open {
            tracing::warn!("`admin` applies at the next start or upgrade");
        }
        if !revoked.is_empty() {
            let (how, drain) = on_revoke;
            self.tasks.spawn(revoked.end(how, drain));
        }
    }
}

/// Logs the certificate authorities and revocation lists in force.
pub(super) fn log_authorities(gateway: &Gateway) {
    let running = gateway.snapshot();
    let (authorities, lists) = running.tls().trust().summary();
    tracing::info!(
        authorities,
        lists = lists.join(", "),
        "client authorities in force"
    );
}

/// Converts a number for a log event: one of 128 bits would be written as text. Larger values
/// become [`u64::MAX`].
pub(super) fn number(number: u128) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}
