//! Findings in the log: at the start, at a reload, and when something comes near its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::UnixTime;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::finding::{self, Finding, FindingScope};
use gateway::Gateway;
use tls::reported_notices::{DueNotices, ReportedNotices};

/// Interval at which findings that do not depend on a date are logged again: 24 h.
const REMIND: Duration = Duration::from_hours(24);
/// Largest number of certificates and lists that are named at once; further ones are counted.
const MOST_NAMED: usize = 20;

/// Log of what an operator should know. Notices that something ends are logged once each.
#[derive(Debug)]
pub(super) struct FindingLog {
    policy: PathBuf,
    access_log: Option<PathBuf>,
    descriptors: Option<u64>,
    told: Mutex<ReportedNotices>,
    /// Notified after a reload: there may be other findings, and notices at another time.
    reloaded: Notify,
}

impl FindingLog {
    /// Creates the log of a process. `descriptors` is the limit of its file descriptors, if it is
    /// known.
    pub(super) fn new(policy: PathBuf, access_log: Option<PathBuf>) -> Self {
        Self {
            policy,
            access_log,
            descriptors: None,
            told: Mutex::default(),
            reloaded: Notify::new(),
        }
    }

    /// Sets the limit of the process's file descriptors, if it is known.
    pub(super) fn set_descriptors(&mut self, descriptors: Option<u64>) {
        self.descriptors = descriptors;
    }

    /// Makes [`follow`](Self::follow) log the findings about the policy that a reload put in force.
    pub(super) fn policy_reloaded(&self) {
        self.reloaded.notify_one();
    }

    /// Logs the findings about the policy in force, and the notices that are due. The time that
    /// this takes grows with the policy.
    pub(super) fn log(&self, gateway: &Gateway) {
        let (running, now) = (gateway.snapshot(), UnixTime::now());
        let scope = FindingScope {
            policy: &self.policy,
            access_log: self.access_log.as_deref(),
            descriptors: self.descriptors,
        };
        for found in finding::standing(running.policy(), running.tls(), &scope, now) {
            warn(&found);
        }
        self.log_notices(gateway);
    }

    /// Logs the notices that are due. Returns the time until the next one.
    fn log_notices(&self, gateway: &Gateway) -> Duration {
        let (running, now) = (gateway.snapshot(), UnixTime::now());
        let items = running.tls().dated();
        let DueNotices { due, next } = self.told.lock().take_due(items, now.as_secs());
        for (item, stage) in due.iter().take(MOST_NAMED) {
            let found = finding::of_dated(running.policy(), item, now);
            if finding::has_ended(*stage) {
                error(&found);
            } else {
                warn(&found);
            }
        }
        let more = due.len().saturating_sub(MOST_NAMED);
        if more > 0 {
            tracing::warn!(
                more,
                "more certificates or revocation lists end soon; `portcullis expiring` lists them"
            );
        }
        next.map_or(REMIND, |next| {
            Duration::from_secs(next.saturating_sub(now.as_secs()))
        })
    }

    /// Logs each notice when it is due, and all findings after a reload and once a day, until the
    /// gateway closes. The findings are made on a thread of their own.
    pub(super) async fn follow(self: Arc<Self>, gateway: Arc<Gateway>) {
        let mut remind = Instant::now() + REMIND;
        loop {
            let pause = self.log_notices(&gateway);
            tokio::select! {
                () = sleep(pause.min(remind.saturating_duration_since(Instant::now()))) => {
                    if Instant::now() < remind {
                        continue;
                    }
                }
                () = self.reloaded.notified() => {}
                () = gateway.shared().closing() => return,
            }
            remind = Instant::now() + REMIND;
            let (log, running) = (Arc::clone(&self), Arc::clone(&gateway));
            // A panic there is reported by its thread; the next reload or day tries again.
            drop(spawn_blocking(move || log.log(&running)).await);
        }
    }
}

fn warn(found: &Finding) {
    let (line, column) = found.position().unzip();
    tracing::warn!(
        at = found.subject(),
        line,
        column,
        finding = found.what(),
        "the policy needs attention"
    );
}

fn error(found: &Finding) {
    let (line, column) = found.position().unzip();
    tracing::error!(
        at = found.subject(),
        line,
        column,
        finding = found.what(),
        "the policy needs attention"
    );
}
