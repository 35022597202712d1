//! A reload of the running gateway, behind its workers' backs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::oneshot;

use super::{Run, files};
use crate::admin::Admin;
use crate::gateway::{Applied, Gateway};
use crate::load::{LoadError, base};

/// The nice value of a reload's threads.
const LOWEST_PRIORITY: i32 = 19;
/// How many changes of one reload are logged one by one.
const CHANGES_LOGGED: usize = 20;

impl Run {
    /// Reads the policy and its files again. Whatever is wrong with them, what is in force stays.
    pub async fn reload(&mut self) {
        let gateway = Arc::clone(&self.gateway);
        let path = self.policy.clone();
        let begin = Instant::now();
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
        // The files are stamped before they are read: a write in between is seen as a new change.
        let running = gateway.running();
        self.watch.follow(files(&path, running.policy()));
        let reading = behind_the_workers(move || {
            let applied = gateway.reload(&path)?;
            let files = files(&path, gateway.running().policy());
            Ok::<_, LoadError>((applied, files))
        });
        match reading.await {
            Ok(Ok((applied, files))) => {
                self.watch.follow_also(files);
                self.report(applied, begin.elapsed());
            }
            Ok(Err(error)) if self.is_decided_elsewhere => tracing::error!(
                %error,
                open = self.gateway.drain().open(),
                "this process cannot read the policy; the one that serves decides about its connections"
            ),
            Ok(Err(error)) => {
                let generation = running.generation();
                tracing::error!(%error, generation, "the policy was not reloaded; the old one stays in force");
            }
            Err(error) => {
                tracing::error!(%error, "the reload did not end; the old policy stays in force");
            }
        }
        self.keep_listeners();
        self.tell(&[NotifyState::Ready]);
    }

    fn report(&self, applied: Applied, took: Duration) {
        let Applied {
            generation,
            changes,
            took: in_force,
            lapsed,
            on_revoke,
        } = applied;
        for change in changes.iter().take(CHANGES_LOGGED) {
            tracing::info!(%change, "changed");
        }
        tracing::info!(
            generation,
            changes = changes.len(),
            lapsed = lapsed.len(),
            took_ms = number(took.as_millis()),
            apply_us = number(in_force.as_micros()),
            "policy reloaded"
        );
        log_findings(&self.gateway);
        let wanted = self.gateway.running().policy().gateway().admin.clone();
        let open = self.admin.as_ref().map(Admin::path);
        let wanted = wanted.map(|path| base(&self.policy).join(path));
        if !self.is_followed && wanted.as_deref() != open {
            tracing::warn!("`admin` applies at the next start or upgrade");
        }
        if !lapsed.is_empty() {
            let (how, drain) = on_revoke;
            self.tasks.spawn(lapsed.end(how, drain));
        }
    }
}

/// Does work on a thread of its own, and its threads', that get what processor time the workers
/// leave: connections are not to notice that a large policy is read.
async fn behind_the_workers<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, oneshot::error::RecvError> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || {
            // Linux has a nice value for each thread (sched(7)); where it cannot be had, so be it.
            rustix::process::nice(LOWEST_PRIORITY).ok();
            // Nobody waits any more if the gateway ends meanwhile.
            done.send(work()).ok();
        });
    if let Err(error) = thread {
        tracing::error!(%error, "no thread can be had for a reload");
    }
    result.await
}

/// Logs which authorities and lists are in force, and what an operator should know about the files.
pub(super) fn log_findings(gateway: &Gateway) {
    let running = gateway.running();
    let (authorities, lists) = running.tls().trust().summary();
    tracing::info!(
        authorities,
        lists = lists.join(", "),
        "client authorities in force"
    );
    let now = rustls_pki_types::UnixTime::now();
    for finding in running.tls().findings(running.policy(), now) {
        tracing::warn!(
            at = finding.place(),
            finding = finding.what(),
            "the policy's files need attention"
        );
    }
}

/// A number as an event has to have it: one of 128 bits would be written as text.
pub(super) fn number(number: u128) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}
