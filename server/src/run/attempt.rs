//! An upgrade that is under way: at most one at a time.

use std::future::pending;
use std::io;
use std::path::PathBuf;

use tokio::sync::oneshot;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::admin::Upgraded;
use crate::succession::{Candidate, UpgradeError};

/// Where the answer to a request goes.
pub(super) type Answer = oneshot::Sender<Result<Upgraded, UpgradeError>>;

/// Perhaps an upgrade that is under way. Dropping it kills the process that was being started.
#[derive(Debug, Default)]
pub(super) struct Attempt(Option<Underway>);

#[derive(Debug)]
struct Underway {
    starting: AbortOnDropHandle<Result<Candidate, UpgradeError>>,
    wanted: Wanted,
}

/// What was asked for, and by whom: a signal if there is nowhere to answer.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) dry_run: bool,
    pub(super) binary: PathBuf,
    pub(super) answer: Option<Answer>,
}

impl Attempt {
    /// Starts a process by `starting`, unless one is being started.
    pub(super) fn begin(
        &mut self,
        tasks: &TaskTracker,
        wanted: Wanted,
        starting: impl Future<Output = Result<Candidate, UpgradeError>> + Send + 'static,
    ) {
        if self.0.is_some() {
            wanted.failed(UpgradeError::Underway);
            return;
        }
        self.0 = Some(Underway {
            starting: AbortOnDropHandle::new(tasks.spawn(starting)),
            wanted,
        });
    }

    /// Waits until the process is ready or cannot be; for ever if there is none. Cancel safe.
    pub(super) async fn ready(&mut self) -> (Wanted, Result<Candidate, UpgradeError>) {
        let Some(underway) = &mut self.0 else {
            return pending().await;
        };
        let started = (&mut underway.starting).await;
        let candidate = started.unwrap_or_else(|panic| Err(io::Error::other(panic).into()));
        match self.0.take() {
            Some(underway) => (underway.wanted, candidate),
            None => pending().await,
        }
    }
}

impl Wanted {
    /// It was done, or could be.
    pub(super) fn done(self, upgraded: Upgraded) {
        if upgraded.dry_run {
            tracing::info!(binary = %self.binary.display(), file = %upgraded.file.display(), "an upgrade would succeed");
        } else {
            let (pid, connections) = (upgraded.pid, upgraded.connections);
            let (binary, file) = (self.binary.display(), upgraded.file.display());
            tracing::info!(%binary, %file, pid, connections, "upgraded");
        }
        self.say(Ok(upgraded));
    }

    /// It could not be done.
    pub(super) fn failed(self, error: UpgradeError) {
        tracing::error!(%error, binary = %self.binary.display(), "there was no upgrade; this process goes on");
        self.say(Err(error));
    }

    fn say(self, answer: Result<Upgraded, UpgradeError>) {
        if let Some(waiting) = self.answer {
            // Whoever asked may have left.
            drop(waiting.send(answer));
        }
    }
}
